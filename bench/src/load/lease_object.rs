//! The value that a kubelet's heartbeat writes: a `coordination.k8s.io/v1` Lease in Kubernetes'
//! protobuf envelope, about 500 bytes, with what a real one carries (owner reference, managed
//! fields, holder, renew time).

use super::template::{KeyShape, STAMP_PLACEHOLDER};
use super::wire::{put_bytes, put_number};

const ENVELOPE_MAGIC: &[u8; 4] = b"k8s\0";
const NAMESPACE: &[u8] = b"kube-node-lease";
const CREATED_SECONDS: u64 = 1_750_000_000;
const FIELDS: &[u8] = br#"{"f:metadata":{"f:ownerReferences":{".":{},"k:{\"uid\":\"5b1c0f4e-8d0a-4a57-9f3e-2f6f0b7d9a11\"}":{}}},"f:spec":{"f:holderIdentity":{},"f:leaseDurationSeconds":{},"f:renewTime":{}}}"#;

/// The Lease of the node whose number is the key's; the UID ends with the stamp, so that no two
/// updates write the same bytes.
#[must_use]
pub fn lease_value(shape: &KeyShape) -> Vec<u8> {
    let mut name = b"node-".to_vec();
    name.extend(shape.digit_placeholders());

    let mut raw = Vec::new();
    put_bytes(&mut raw, 1, &metadata(&name));
    put_bytes(&mut raw, 2, &spec(&name));

    let mut type_meta = Vec::new();
    put_bytes(&mut type_meta, 1, b"coordination.k8s.io/v1");
    put_bytes(&mut type_meta, 2, b"Lease");
    let mut unknown = ENVELOPE_MAGIC.to_vec();
    put_bytes(&mut unknown, 1, &type_meta);
    put_bytes(&mut unknown, 2, &raw);
    // runtime.Unknown always carries contentEncoding and contentType, empty here.
    unknown.extend([3 << 3 | 2, 0, 4 << 3 | 2, 0]);
    unknown
}

fn metadata(name: &[u8]) -> Vec<u8> {
    let mut uid = b"c0ffee00-3f6b-4d1e-8".to_vec();
    uid.extend(STAMP_PLACEHOLDER);
    let mut owner = Vec::new();
    put_bytes(&mut owner, 1, b"Node");
    put_bytes(&mut owner, 3, name);
    put_bytes(&mut owner, 4, b"5b1c0f4e-8d0a-4a57-9f3e-2f6f0b7d9a11");
    put_bytes(&mut owner, 5, b"v1");

    let (mut fields, mut managed) = (Vec::new(), Vec::new());
    put_bytes(&mut fields, 1, FIELDS);
    put_bytes(&mut managed, 1, b"kubelet");
    put_bytes(&mut managed, 2, b"Update");
    put_bytes(&mut managed, 3, b"coordination.k8s.io/v1");
    put_bytes(&mut managed, 4, &time(CREATED_SECONDS));
    put_bytes(&mut managed, 6, b"FieldsV1");
    put_bytes(&mut managed, 7, &fields);

    let mut metadata = Vec::new();
    put_bytes(&mut metadata, 1, name);
    put_bytes(&mut metadata, 3, NAMESPACE);
    put_bytes(&mut metadata, 5, &uid);
    put_bytes(&mut metadata, 8, &time(CREATED_SECONDS));
    put_bytes(&mut metadata, 13, &owner);
    put_bytes(&mut metadata, 17, &managed);
    metadata
}

fn spec(name: &[u8]) -> Vec<u8> {
    let mut spec = Vec::new();
    put_bytes(&mut spec, 1, name);
    put_number(&mut spec, 2, 40); // leaseDurationSeconds, the kubelet's default
    put_bytes(&mut spec, 4, &time(CREATED_SECONDS + 10));
    spec
}

fn time(seconds: u64) -> Vec<u8> {
    let mut time = Vec::new();
    put_number(&mut time, 1, seconds);
    put_number(&mut time, 2, 123_456_000);
    time
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::wire;

    #[test]
    fn a_lease_has_the_shape_and_size_of_a_real_one() {
        let shape = KeyShape::new("/registry/leases/kube-node-lease/node-", 10_000);
        let value = lease_value(&shape);
        assert!((450..=600).contains(&value.len()), "{} bytes", value.len());
        let unknown = value.strip_prefix(ENVELOPE_MAGIC).unwrap();
        let raw = wire::message(unknown, 2).unwrap().unwrap();
        let metadata = wire::message(raw, 1).unwrap().unwrap();
        assert_eq!(wire::message(metadata, 3), Ok(Some(NAMESPACE)));
        let uid = wire::message(metadata, 5).unwrap().unwrap();
        assert_eq!(uid.len(), 36, "as long as a UUID");
        let spec = wire::message(raw, 2).unwrap().unwrap();
        assert_eq!(wire::number(spec, 2), Ok(40));
    }
}
