//! What holds whatever the client sends.

use super::*;
use proptest::prelude::*;

/// Frames that are more often right than arbitrary bytes.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![Just(0u32), 1u32..12];
    let payload = prop_oneof![
        Just(GET.to_vec()),
        Just(POST.to_vec()),
        Just(vec![0, 0, 0, 9]),
        Just(vec![0; 8]),
        Just(vec![0, 4, 0, 0, 0, 50]),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    (0u8..11, prop_oneof![Just(4u8), Just(5), Just(0), any::<u8>()], stream, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

/// Everything that comes of these pieces of input; each request is answered with some data.
fn run(pieces: &[&[u8]]) -> (Vec<String>, Vec<u8>) {
    let mut connection = Connection::default();
    let mut events = Vec::new();
    for mut input in pieces.iter().copied() {
        loop {
            match connection.receive(&mut input) {
                Ok(Some(Event::Request { stream, request, end })) => {
                    events.push(format!("{stream:?} {request:?} {end}"));
                    let (head, ()) = Response::new(()).into_parts();
                    connection.respond(stream, &head, Extra::default(), false);
                    connection.send_data(stream, bytes(100), true);
                }
                Ok(Some(event)) => events.push(words(&mut connection, event)),
                Ok(None) => break,
                Err(fault) => {
                    events.push(fault.to_string());
                    return (events, connection.output().to_vec());
                }
            }
            connection.send_pending();
        }
    }
    assert!(connection.partial.len() <= HEAD_BYTES + (16 << 10));
    assert!(connection.streams() <= limits::STREAMS_PER_CONNECTION as usize);
    (events, connection.output().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn how_the_input_is_cut_makes_no_difference(
        frames in prop::collection::vec(any_frame(), 0..30),
        cuts in prop::collection::vec(0usize..1500, 0..20),
    ) {
        let mut input = PREFACE.to_vec();
        input.extend(frame(kind::SETTINGS, 0, 0, &[]));
        input.extend(frames.concat());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        prop_assert_eq!(run(&pieces), run(&[&input]));
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(run(&bytes), run(&[&input]));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..2000),
        after_hello in any::<bool>(),
    ) {
        let mut input = Vec::new();
        if after_hello {
            input.extend_from_slice(PREFACE);
            input.extend(frame(kind::SETTINGS, 0, 0, &[]));
        }
        input.extend(noise);
        run(&[&input]);
    }
}
