//! Objects as answers: one, a bounded list, or a list of any length that is written while it is
//! read, so that it never lies in memory as a whole.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use http::StatusCode;
use http::header::{CONTENT_ENCODING, VARY};
use mainstay_engine::runtime::yield_now;
use serde_json::{Value, json};

use super::answer::{self, Answer, GzipStream};
use super::encoding::ProtobufList;
use super::limits::{GZIP_MIN_BYTES, LIST_CHUNK_BYTES, LIST_DECODED_AT_ONCE};
use super::object::Object;
use super::registry::catalog::Entry;
use super::registry::context::Now;
use super::registry::list::{ListHead, ListReader};
use super::registry::{Registry, Target};
use super::request::negotiation::{Encoding, Representation, Shape};
use super::request::options::ListOptions;
use super::shape::{IncludeObject, ShapeContext, Subject, shape_list, shape_object};
use super::status::ApiError;
use super::storage::Stored;
use super::storage::value;
use crate::net::{BoxError, BoxedBody};

/// How a list is written.
#[derive(Clone, Copy)]
pub struct Style {
    pub representation: Representation,
    pub include: IncludeObject,
    /// The client takes gzip.
    pub gzip: bool,
    pub now: Now,
}

fn context(entry: &Entry, include: IncludeObject, now: Now) -> ShapeContext<'_> {
    ShapeContext {
        entry,
        subject: Subject::of(entry),
        now_unix_seconds: now.unix_seconds(),
        with_columns: true,
        include,
    }
}

/// A `Scale` of an object.
pub fn scale(
    entry: &Entry,
    scale: Object,
    representation: Representation,
    include: IncludeObject,
    now: Now,
) -> Answer {
    let context = ShapeContext { subject: Subject::SCALE, ..context(entry, include, now) };
    let shaped = shape_object(&context, scale, representation.shape);
    answer::document(StatusCode::OK, &Value::Object(shaped), representation)
}

/// One object.
pub fn one(
    entry: &Entry,
    code: StatusCode,
    object: Object,
    representation: Representation,
    include: IncludeObject,
    now: Now,
) -> Answer {
    let shaped = shape_object(&context(entry, include, now), object, representation.shape);
    answer::document(code, &Value::Object(shaped), representation)
}

/// One object as it lies in storage.
pub fn stored(
    registry: &Registry,
    entry: &Entry,
    stored: &Stored,
    representation: Representation,
    include: IncludeObject,
    now: Now,
) -> Result<Answer, ApiError> {
    let as_is = representation.shape == Shape::Object
        && representation.encoding == Encoding::Json
        && !representation.pretty;
    if as_is && let Some(splice) = &entry.splice {
        let mut out = BytesMut::new();
        if splice.write(&stored.value, stored.revision, true, &mut out) {
            out.put_u8(b'\n');
            return Ok(answer::encoded(StatusCode::OK, out.freeze(), Encoding::Json));
        }
    }
    let object = registry.decode(entry, stored)?;
    Ok(one(entry, StatusCode::OK, object, representation, include, now))
}

/// The list of what a deletecollection deleted.
pub fn deleted(
    entry: &Entry,
    objects: Vec<Object>,
    revision: i64,
    representation: Representation,
    now: Now,
) -> Answer {
    let context = context(entry, IncludeObject::default(), now);
    let metadata = json!({"resourceVersion": revision.to_string()});
    let list = shape_list(&context, metadata, objects, representation.shape);
    answer::document(StatusCode::OK, &Value::Object(list), representation)
}

/// A list of objects that are not stored.
pub fn unstored(
    entry: &Entry,
    objects: Vec<Object>,
    representation: Representation,
    include: IncludeObject,
    now: Now,
) -> Answer {
    let context = context(entry, include, now);
    let list = shape_list(&context, json!({}), objects, representation.shape);
    answer::document(StatusCode::OK, &Value::Object(list), representation)
}

/// Answers a list request.
pub async fn list(
    registry: Rc<Registry>,
    target: Target,
    options: ListOptions,
    style: Style,
) -> Result<Answer, ApiError> {
    let limited = options.limit > 0;
    let entry = target.entry.clone();
    let mut reader = ListReader::open(registry.clone(), target, options).await?;
    let plain = style.representation.shape == Shape::Object
        && style.representation.encoding == Encoding::Json
        && !style.representation.pretty;
    if plain && !limited {
        return Ok(stream_answer(registry, entry, reader, style));
    }
    let is_object = style.representation.shape == Shape::Object;
    if is_object && style.representation.encoding == Encoding::Protobuf {
        return protobuf_list(&registry, &entry, reader, limited, style).await;
    }
    let (head, items) = if limited {
        reader.read_limited().await?
    } else {
        let mut items = Vec::new();
        while let Some(chunk) = reader.next_chunk().await? {
            items.extend(chunk);
        }
        (ListHead::whole(&reader), items)
    };
    let mut objects = Vec::with_capacity(items.len());
    for chunk in items.chunks(LIST_DECODED_AT_ONCE) {
        for stored in chunk {
            objects.push(registry.decode(&entry, stored)?);
        }
        yield_now().await;
    }
    let context = context(&entry, style.include, style.now);
    let list = shape_list(&context, list_metadata(&head), objects, style.representation.shape);
    yield_now().await;
    let bytes = super::encoding::encode_value(
        &Value::Object(list),
        style.representation.encoding,
        style.representation.pretty,
    );
    let answer = answer::encoded(StatusCode::OK, bytes.clone(), style.representation.encoding);
    Ok(if style.gzip { answer::gzip(bytes, answer) } else { answer })
}

/// A list in protobuf. Its length comes first, so that it can't be sent before it is complete; but
/// only its bytes lie in memory, never the objects.
async fn protobuf_list(
    registry: &Registry,
    entry: &Entry,
    mut reader: ListReader,
    limited: bool,
    style: Style,
) -> Result<Answer, ApiError> {
    let mut list = ProtobufList::new(&entry.resource);
    let head = if limited {
        let (head, items) = reader.read_limited().await?;
        for chunk in items.chunks(LIST_DECODED_AT_ONCE) {
            push_all(registry, entry, chunk, &mut list)?;
            yield_now().await;
        }
        head
    } else {
        while let Some(chunk) = reader.next_chunk().await? {
            push_all(registry, entry, &chunk, &mut list)?;
            yield_now().await;
        }
        ListHead::whole(&reader)
    };
    let bytes = list.finish(&list_metadata(&head));
    let answer = answer::encoded(StatusCode::OK, bytes.clone(), Encoding::Protobuf);
    Ok(if style.gzip { answer::gzip(bytes, answer) } else { answer })
}

fn push_all(
    registry: &Registry,
    entry: &Entry,
    items: &[Stored],
    list: &mut ProtobufList,
) -> Result<(), ApiError> {
    for stored in items {
        list.push(registry.decode(entry, stored)?);
    }
    Ok(())
}

fn list_metadata(head: &ListHead) -> Value {
    let mut metadata = json!({"resourceVersion": head.revision.to_string()});
    if let Some(token) = &head.continue_token {
        metadata["continue"] = token.as_str().into();
    }
    if let Some(remaining) = head.remaining {
        metadata["remainingItemCount"] = remaining.into();
    }
    metadata
}

/// A list that is being written.
struct ListWriter {
    registry: Rc<Registry>,
    entry: Rc<Entry>,
    reader: ListReader,
    gzip: Option<GzipStream>,
    any_items: bool,
    /// The beginning, until it was sent.
    prefix: Option<String>,
    ended: bool,
}

fn stream_answer(
    registry: Rc<Registry>,
    entry: Rc<Entry>,
    reader: ListReader,
    style: Style,
) -> Answer {
    let open = if entry.custom.is_some() { "\"continue\":\"\"," } else { "" };
    let prefix = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{{{open}\"resourceVersion\":\"{}\"}},\"items\":[",
        entry.resource.kind,
        entry.api_version,
        reader.revision()
    );
    let large = reader.first_chunk_bytes() >= GZIP_MIN_BYTES;
    let gzip = (style.gzip && large).then(GzipStream::new);
    let compressed = gzip.is_some();
    let writer = ListWriter {
        registry,
        entry,
        reader,
        gzip,
        any_items: false,
        prefix: Some(prefix),
        ended: false,
    };
    let body = BoxedBody::stream(writer.into_stream());
    let mut answer = answer::streamed(Encoding::Json.content_type(), body);
    if compressed {
        answer.headers_mut().insert(CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
        answer.headers_mut().insert(VARY, http::HeaderValue::from_static("Accept-Encoding"));
    }
    answer
}

impl ListWriter {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, BoxError>> {
        stream::unfold(self, |mut writer| async move {
            loop {
                if writer.ended {
                    return None;
                }
                match writer.next_bytes().await {
                    Ok(bytes) if bytes.is_empty() => {}
                    Ok(bytes) => return Some((Ok(bytes), writer)),
                    Err(error) => {
                        // The answer has begun: all that is left is to break it off.
                        writer.ended = true;
                        return Some((Err(error.to_string().into()), writer));
                    }
                }
            }
        })
    }

    async fn next_bytes(&mut self) -> Result<Bytes, ApiError> {
        let mut out = BytesMut::with_capacity(LIST_CHUNK_BYTES);
        if let Some(prefix) = self.prefix.take() {
            out.put_slice(prefix.as_bytes());
        }
        while out.len() < LIST_CHUNK_BYTES && !self.ended {
            match self.reader.next_chunk().await? {
                Some(chunk) => {
                    for stored in &chunk {
                        self.write_item(stored, &mut out)?;
                    }
                }
                None => {
                    out.put_slice(b"]}\n");
                    self.ended = true;
                }
            }
        }
        let Some(gzip) = &mut self.gzip else { return Ok(out.freeze()) };
        let mut compressed = BytesMut::from(&gzip.push(&out)[..]);
        if self.ended {
            compressed.put_slice(&gzip.finish());
        }
        Ok(compressed.freeze())
    }

    fn write_item(&mut self, stored: &Stored, out: &mut BytesMut) -> Result<(), ApiError> {
        if self.any_items {
            out.put_u8(b',');
        }
        self.any_items = true;
        // Custom objects say what they are in lists, too.
        let typed = self.entry.custom.is_some();
        if let Some(splice) = &self.entry.splice
            && splice.write(&stored.value, stored.revision, typed, out)
        {
            return Ok(());
        }
        let mut object = self.registry.decode(&self.entry, stored)?;
        if !typed {
            object.remove("kind");
            object.remove("apiVersion");
        }
        let mut json = Vec::new();
        value::write_json(&object, &mut json);
        out.put_slice(&json);
        Ok(())
    }
}
