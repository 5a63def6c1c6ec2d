//! Which representation the client wants: `Accept`, with kube-apiserver's parameters.

use crate::kube::status::ApiError;

/// What an object is turned into before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    #[default]
    Object,
    Table(MetaVersion),
    PartialMetadata(MetaVersion),
}

/// The version of `meta.k8s.io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaVersion {
    V1,
    V1Beta1,
}

impl MetaVersion {
    pub fn group_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Encoding {
    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The type of a stream of watch events.
    pub fn stream_content_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            other => other.content_type(),
        }
    }
}

/// The representation of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Representation {
    pub encoding: Encoding,
    pub shape: Shape,
    /// Indented JSON, for people.
    pub pretty: bool,
}

/// What can be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// Objects and lists.
    Resource,
    /// The same of a custom resource, which has no protobuf form.
    Custom,
    /// A stream of watch events.
    Watch,
    /// Discovery documents and the like, without shapes.
    Document,
}

const RESOURCE: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const WATCH: [&str; 5] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

/// Media types whose bodies are read.
pub const BODIES: [&str; 3] = RESOURCE;

/// One `type/subtype;name=value` of an Accept header.
struct MediaRange<'a> {
    kind: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

fn parse_accept(accept: &str) -> Vec<MediaRange<'_>> {
    let mut ranges: Vec<MediaRange<'_>> = accept
        .split(',')
        .filter_map(|one| {
            let mut parts = one.split(';').map(str::trim);
            let kind = parts.next().filter(|kind| !kind.is_empty())?;
            let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
            let quality = parameters.iter().find(|(name, _)| *name == "q");
            let quality = quality.and_then(|(_, q)| q.parse().ok()).unwrap_or(1.0);
            Some(MediaRange { kind, parameters, quality })
        })
        .collect();
    ranges.sort_by(|left, right| right.quality.total_cmp(&left.quality));
    ranges
}

/// Picks the first representation of `accept` that can be given.
pub fn negotiate(accept: &str, offer: Offer) -> Result<Representation, ApiError> {
    if accept.trim().is_empty() {
        return Ok(Representation::default());
    }
    let mut refused_shape = false;
    for range in parse_accept(accept) {
        let encoding = match range.kind {
            "application/json" | "*/*" => Encoding::Json,
            "application/yaml" if offer != Offer::Watch => Encoding::Yaml,
            "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
            _ => continue,
        };
        match shape(&range, offer) {
            // Tables have no protobuf form.
            Some(Shape::Table(_)) if encoding == Encoding::Protobuf => refused_shape = true,
            Some(shape) => return Ok(Representation { encoding, shape, pretty: false }),
            None => refused_shape = true,
        }
    }
    if refused_shape {
        let message =
            format!("only the following media types are accepted: {}", RESOURCE.join(", "));
        return Err(ApiError::new(http::StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message));
    }
    Err(ApiError::not_acceptable(match offer {
        Offer::Watch => &WATCH,
        Offer::Resource | Offer::Document => &RESOURCE,
        Offer::Custom => &RESOURCE[..2],
    }))
}

/// The shape that a range's parameters ask for; `None` when there is no such shape.
fn shape(range: &MediaRange<'_>, offer: Offer) -> Option<Shape> {
    let parameter = |name| range.parameters.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let Some(name) = parameter("as") else { return Some(Shape::Object) };
    if offer == Offer::Document || parameter("g") != Some("meta.k8s.io") {
        return None;
    }
    let version = match parameter("v")? {
        "v1" => MetaVersion::V1,
        "v1beta1" => MetaVersion::V1Beta1,
        _ => return None,
    };
    match name {
        "Table" => Some(Shape::Table(version)),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => {
            Some(Shape::PartialMetadata(version))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_that_can_be_given() {
        let table = Shape::Table(MetaVersion::V1);
        let partial = Shape::PartialMetadata(MetaVersion::V1);
        for (accept, encoding, shape) in [
            ("", Encoding::Json, Shape::Object),
            ("*/*", Encoding::Json, Shape::Object),
            ("application/yaml", Encoding::Yaml, Shape::Object),
            ("text/html, application/json;q=0.5", Encoding::Json, Shape::Object),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Encoding::Protobuf,
                Shape::Object,
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Encoding::Json,
                table,
            ),
            (
                "application/json;as=Table;v=v7;g=meta.k8s.io, application/json",
                Encoding::Json,
                Shape::Object,
            ),
            (
                "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
                Encoding::Json,
                partial,
            ),
        ] {
            let expected = Representation { encoding, shape, pretty: false };
            assert_eq!(negotiate(accept, Offer::Resource), Ok(expected), "{accept}");
        }
    }

    #[test]
    fn what_cannot_be_given() {
        for (accept, offer, expected) in [
            (
                "text/html",
                Offer::Resource,
                "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ),
            (
                "application/json;as=Nope;v=v1;g=meta.k8s.io",
                Offer::Resource,
                "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            ),
            (
                "text/html",
                Offer::Watch,
                "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
            ),
        ] {
            let error = negotiate(accept, offer).unwrap_err();
            assert_eq!(error.status().message, expected);
            assert_eq!(error.code().as_u16(), 406);
        }
    }
}
