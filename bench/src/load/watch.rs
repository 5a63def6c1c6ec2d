//! The watch workload: watchers on a prefix, writers beneath it. Every value carries the time at
//! which its put was due, so each received event yields the time from put to delivery.

use super::grpc::{CallError, Channel, FrameReader, Method};
use super::random::Random;
use super::run::{Event, Kind, Plan};
use super::template::{self, Template};
use super::wire::{self, Field, Fields, WireError};
use super::worker::{Context, Shared, Start, key_shape};
use super::workload::stamped_value;
use bytes::{Bytes, BytesMut};
use h2::SendStream;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A gRPC stream with its watchers.
struct Stream {
    watchers: u64,
    reader: FrameReader,
    _sender: SendStream<Bytes>, // dropping it would end the call
}

/// Runs the watchers of thread `number`; the first thread writes too.
///
/// # Errors
/// When a watch cannot be created.
pub async fn run(
    number: usize,
    shared: &Arc<Shared>,
    channels: &[Rc<Channel>],
    start: oneshot::Receiver<Start>,
    events: &Sender<Event>,
) -> Result<(), String> {
    let plan = &shared.plan;
    let mut streams = Vec::new();
    for (position, watchers) in streams_of(number, plan).into_iter().enumerate() {
        let channel = &channels[position % channels.len()];
        let opened = open_stream(channel, plan, watchers);
        let opened = tokio::time::timeout(plan.request_timeout, opened).await;
        let stream = opened.unwrap_or(Err(CallError::Timeout));
        streams.push(stream.map_err(|error| format!("cannot create a watch: {error}"))?);
    }
    let writer = match number {
        0 => Some(Channel::open(&plan.endpoints[0]).await.map_err(|error| error.to_string())?),
        _ => None,
    };
    drop(events.send(Event::Ready));
    let Ok(start) = start.await else { return Ok(()) }; // another thread failed
    let context = Context::new(number, shared, start)?;
    tokio::time::sleep_until(start.start.into()).await;

    let mut tasks = tokio::task::JoinSet::new();
    for stream in streams {
        tasks.spawn_local(receive(context.clone(), stream));
    }
    if let Some(channel) = writer {
        tasks.spawn_local(write_all(context.clone(), Rc::new(channel)));
    }
    let all_ended = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = all_ended => {}
        () = context.drive() => {}
    }
    Ok(())
}

/// How many watchers each stream of thread `number` carries.
fn streams_of(number: usize, plan: &Plan) -> Vec<u64> {
    let Kind::Watch { watchers, per_stream } = plan.kind else { return Vec::new() };
    let streams = watchers.div_ceil(per_stream);
    (number..streams)
        .step_by(plan.threads)
        .map(|stream| (watchers - stream * per_stream).min(per_stream) as u64)
        .collect()
}

async fn open_stream(channel: &Channel, plan: &Plan, watchers: u64) -> Result<Stream, CallError> {
    let template = template::watch_create(&key_shape(plan));
    let mut buffer = BytesMut::new();
    let frame = template.render(0, 0, 0, &mut buffer);
    let (mut sender, mut reader) = channel.stream(Method::Watch, frame.clone()).await?;
    for _ in 1..watchers {
        sender.send_data(frame.clone(), false)?;
    }
    let mut created = 0;
    while created < watchers {
        let message = reader.next().await?;
        let message = message.ok_or(CallError::Protocol("the watch stream ended"))?;
        if wire::number(&message, 3).map_err(|_| CallError::Protocol("not a WatchResponse"))? == 0 {
            return Err(CallError::Protocol("an event came before the watch was created"));
        }
        created += 1;
    }
    Ok(Stream { watchers, reader, _sender: sender })
}

/// Receives until every acknowledged put has been seen by every watcher of the stream.
async fn receive(context: Rc<Context>, mut stream: Stream) {
    let mut expected = context.shared().puts_expected.subscribe();
    let mut received = 0u64;
    let mut missing_at: Option<Instant> = None;
    loop {
        let puts = *expected.borrow();
        if let Some(puts) = puts {
            let all = puts * stream.watchers;
            let patience = context.shared().plan.request_timeout;
            let give_up = *missing_at.get_or_insert_with(|| Instant::now() + patience);
            if received >= all || Instant::now() >= give_up {
                let missing = all.saturating_sub(received);
                if missing > 0 {
                    context.recorder().with(|all| all.failures("watch events missing", missing));
                }
                return;
            }
        }
        let message = tokio::select! {
            message = stream.reader.next() => message,
            _ = expected.changed() => continue,
            () = tokio::time::sleep(Duration::from_millis(100)), if puts.is_some() => continue,
        };
        let counted = match message {
            Ok(Some(message)) => count(&context, &message)
                .map_err(|_| CallError::Protocol("the response is no valid message")),
            Ok(None) => Err(CallError::Protocol("the watch stream ended")),
            Err(error) => Err(error),
        };
        match counted {
            Ok(events) => received += events,
            Err(error) => {
                context.recorder().with(|measures| measures.failure(&error.to_string()));
                return;
            }
        }
    }
}

/// Records the events of a `WatchResponse` and returns their number.
fn count(context: &Context, response: &[u8]) -> Result<u64, WireError> {
    let now = Instant::now();
    let mut events = 0;
    let mut result = Ok(());
    context.recorder().with(|measures| {
        for stamp in stamps(response) {
            match stamp {
                Ok(stamp) => {
                    let sent = context.start() + Duration::from_nanos(stamp);
                    measures.success(now.saturating_duration_since(sent));
                    events += 1;
                }
                Err(error) => result = Err(error),
            }
        }
    });
    result.map(|()| events)
}

/// The stamps in the values of a response's events; a canceled watch is an error.
fn stamps(response: &[u8]) -> impl Iterator<Item = Result<u64, WireError>> + '_ {
    const CANCELED: u64 = 4;
    const EVENTS: u64 = 11;
    Fields::of(response).filter_map(|field| match field {
        Ok((EVENTS, Field::Bytes(event))) => Some(stamp(event)),
        Ok((CANCELED, Field::Varint(1))) => Some(Err(WireError)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// `Event{kv{value}}`
fn stamp(event: &[u8]) -> Result<u64, WireError> {
    let pair = wire::message(event, 2)?.ok_or(WireError)?;
    let value = wire::message(pair, 5)?.ok_or(WireError)?;
    template::read_stamp(value).ok_or(WireError)
}

async fn write_all(context: Rc<Context>, channel: Rc<Channel>) {
    let plan = &context.shared().plan;
    let value = stamped_value(plan.value_size_bytes, &mut Random::new(plan.seed));
    let template = Rc::new(template::put(&key_shape(plan), &value));
    let acknowledged = Rc::new(Cell::new(0u64));
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..plan.clients {
        let random = Random::new(plan.seed.wrapping_add(number as u64));
        writers.spawn_local(write(
            context.clone(),
            channel.clone(),
            template.clone(),
            acknowledged.clone(),
            random,
        ));
    }
    while writers.join_next().await.is_some() {}
    context.shared().puts_expected.send_replace(Some(acknowledged.get()));
}

async fn write(
    context: Rc<Context>,
    channel: Rc<Channel>,
    template: Rc<Template>,
    acknowledged: Rc<Cell<u64>>,
    mut random: Random,
) {
    let (key_space, timeout) =
        (context.shared().plan.key_space, context.shared().plan.request_timeout);
    while let Some(intended) = context.next().await {
        let stamp = intended.saturating_duration_since(context.start()).as_nanos() as u64;
        let index = random.below(key_space);
        let frame = template.render(index, stamp, 0, &mut context.buffer().borrow_mut());
        let generation = channel.generation();
        let result = channel.unary(Method::Put, frame, timeout).await;
        context.recorder().with(|measures| match &result {
            Ok(_) => measures.puts += 1,
            Err(error) => measures.failure(&error.to_string()),
        });
        match result {
            Ok(_) => acknowledged.set(acknowledged.get() + 1),
            Err(error) if error.breaks_connection() => channel.recover(generation).await,
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_proto::watch::WatchResponse;
    use mainstay_proto::{Event, KeyValue};
    use prost::Message;

    #[test]
    fn stamps_are_read_from_events_and_a_cancellation_is_an_error() {
        let event = |value: &'static str| Event {
            kv: Some(KeyValue { key: "k".into(), value: value.into(), ..Default::default() }),
            ..Default::default()
        };
        let mut response = WatchResponse {
            events: vec![event("00000000000000ff-rest"), event("0000000000000100")],
            ..Default::default()
        };
        let read = |response: &WatchResponse| stamps(&response.encode_to_vec()).collect::<Vec<_>>();
        assert_eq!(read(&response), [Ok(255), Ok(256)]);
        response.canceled = true;
        assert!(read(&response).contains(&Err(WireError)));
        response.canceled = false;
        response.events.push(event("no stamp"));
        assert_eq!(read(&response).last(), Some(&Err(WireError)));
    }
}
