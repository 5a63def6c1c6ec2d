//! From what is asked to who does it: verbs of resources, and the paths that are no resource.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::StatusCode;
use mainstay_engine::runtime::timer;
use serde_json::Value;

use super::answer::{self, Answer};
use super::authn::{User, accounts};
use super::authz::reviews;
use super::chain::Call;
use super::codec::{self, Decoded, Format, ObjectError};
use super::encoding::{self, BodyFormat};
use super::measures::{Labels, Running};
use super::registry::catalog::Entry;
use super::registry::context::{Now, WriteContext};
use super::registry::create::check_namespace;
use super::registry::delete::{Deleted, success_status};
use super::registry::list::Selection;
use super::registry::patch::PatchKind;
use super::registry::{Target, into_object};
use super::request::negotiation::Offer;
use super::request::options::{
    DeleteOptions, FieldValidation, ListOptions, WriteOptions, read_resource_version,
};
use super::request::path::RequestInfo;
use super::schema::{GroupVersionKind, Schema, Subresource};
use super::server::Kube;
use super::shape::IncludeObject;
use super::status::ApiError;
use super::watch::{self, WatchRequest};
use super::{admission, components, documents, lists, object};

/// Does what a request asks for.
pub async fn dispatch(
    kube: &Rc<Kube>,
    call: &Rc<Call>,
    user: User,
    body: Bytes,
) -> Result<Answer, ApiError> {
    if !call.info.is_resource {
        return documents::serve(kube, call).await;
    }
    let Some(target) = find_target(kube, call)? else {
        return Ok(answer::page_not_found());
    };
    if let Some(warning) = deprecation(&target) {
        call.warnings.add(warning);
    }
    let custom = target.entry.custom.as_ref();
    if let Some(warning) = custom.and_then(|custom| custom.deprecation.as_ref()) {
        call.warnings.add(warning.as_str());
    }
    let work = Work { kube, call, target, user };
    match (call.info.verb, call.info.subresource.as_str()) {
        ("get", "scale") => work.get_scale().await,
        _ if is_connection(&call.info) => work.connect().await,
        ("get" | "list", "") if work.is_components() => work.components().await,
        ("get", _) => work.get().await,
        ("list", "") => work.list().await,
        ("watch", "") => work.watch().await,
        ("create", "") if work.is_bindings() => work.bind(&body).await,
        ("create", "binding") => work.bind(&body).await,
        ("create", "eviction") => work.evict(&body).await,
        ("create", "token") => work.token(&body).await,
        ("create", "") if !work.target.entry.resource.stored => work.review(&body).await,
        ("create", "") => work.create(&body).await,
        ("update", "scale") => work.update_scale(&body).await,
        ("update", _) => work.update(&body).await,
        ("patch", _) => work.patch(&body).await,
        ("delete", "") => work.delete(&body).await,
        ("deletecollection", "") => work.delete_collection(&body).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// The resource that a path names; `None` below a group that there is not.
fn find_target(kube: &Kube, call: &Call) -> Result<Option<Target>, ApiError> {
    let info = &call.info;
    let catalog = &kube.registry.catalog;
    let Some(entry) = catalog.find(&info.group, &info.version, &info.resource) else {
        return if catalog.has_builtin_group(&info.group) {
            Err(ApiError::no_such_path())
        } else {
            Ok(None)
        };
    };
    let row = &entry.resource;
    if entry.custom.is_some() && is_of_other_scope(row.namespaced, info) {
        return Ok(None);
    }
    let is_collection = info.name.is_empty() || matches!(info.verb, "list" | "watch");
    let misplaced = if row.namespaced {
        info.namespace.is_empty() && !is_collection
    } else {
        !info.namespace.is_empty() && info.resource != "namespaces"
    };
    if misplaced || info.surplus || info.malformed {
        return Err(ApiError::no_such_path());
    }
    let verbs = if info.subresource.is_empty() {
        &row.verbs
    } else {
        let is_it = |one: &&Subresource| one.name == info.subresource;
        let connection = row.subresources.iter().filter(|_| is_connection(info)).find(is_it);
        let known = row.subresource(&info.subresource).or(connection);
        &known.ok_or_else(|| no_subresource(&entry, info))?.verbs
    };
    let allowed = verbs.iter().any(|verb| verb == info.verb);
    let needs_namespace = row.namespaced && info.namespace.is_empty();
    let misused = match info.verb {
        "create" => {
            needs_namespace
                || (!info.name.is_empty()
                    && info.subresource.is_empty()
                    && info.resource != "namespaces")
                || (info.resource == "namespaces" && !info.name.is_empty())
        }
        "update" | "patch" => info.name.is_empty(),
        "deletecollection" => needs_namespace,
        _ => false,
    };
    if !allowed || misused {
        return Err(ApiError::method_not_allowed());
    }
    Ok(Some(Target {
        entry: entry.clone(),
        namespace: info.namespace.clone(),
        name: info.name.clone(),
        subresource: info.subresource.clone(),
    }))
}

/// What leads to a node's kubelet, or through this server to a pod or a service.
fn is_connection(info: &RequestInfo) -> bool {
    ["attach", "exec", "log", "portforward", "proxy"].contains(&info.subresource.as_str())
}

/// Whether a path has a namespace where the resource has none, or the other way round.
fn is_of_other_scope(namespaced: bool, info: &RequestInfo) -> bool {
    match info.namespace.is_empty() {
        true => namespaced && !matches!(info.verb, "list" | "watch"),
        false => !namespaced,
    }
}

/// A subresource that there is not; a custom object's is told like an object that there is not.
fn no_subresource(entry: &Entry, info: &RequestInfo) -> ApiError {
    match entry.custom {
        Some(_) => ApiError::not_found(entry.named_resource(), &info.name),
        None => ApiError::no_such_path(),
    }
}

/// One request for one resource.
struct Work<'a> {
    kube: &'a Rc<Kube>,
    call: &'a Rc<Call>,
    target: Target,
    user: User,
}

impl Work<'_> {
    fn now(&self) -> Now {
        Now::new(timer::wall_clock())
    }

    fn context(&self, options: WriteOptions) -> WriteContext {
        WriteContext {
            field_manager: options.field_manager_or_agent(&self.call.head.headers),
            options,
            now: self.now(),
            warnings: Default::default(),
            user: self.user.clone(),
        }
    }

    /// Warnings of the work become warnings of the answer.
    fn pass_on_warnings(&self, context: &WriteContext) {
        for warning in context.warnings.take() {
            self.call.warnings.add(warning);
        }
    }

    /// Custom objects have no protobuf form.
    fn offer(&self) -> Offer {
        match self.target.entry.custom {
            Some(_) => Offer::Custom,
            None => Offer::Resource,
        }
    }

    fn answer(&self, code: StatusCode, object: object::Object) -> Result<Answer, ApiError> {
        let representation = self.call.representation(self.offer())?;
        let include = IncludeObject::read(&self.call.query);
        Ok(lists::one(&self.target.entry, code, object, representation, include, self.now()))
    }

    fn plain(&self, code: StatusCode, object: object::Object) -> Result<Answer, ApiError> {
        let mut representation = self.call.representation(Offer::Resource)?;
        representation.shape = Default::default();
        Ok(answer::document(code, &Value::Object(object), representation))
    }

    fn scale(&self, scale: object::Object) -> Result<Answer, ApiError> {
        let representation = self.call.representation(Offer::Resource)?;
        let include = IncludeObject::read(&self.call.query);
        Ok(lists::scale(&self.target.entry, scale, representation, include, self.now()))
    }

    async fn get(&self) -> Result<Answer, ApiError> {
        let representation = self.call.representation(self.offer())?;
        let version = read_resource_version(self.call.query.text("resourceVersion"))?;
        let registry = &self.kube.registry;
        let stored = registry.get_stored(&self.target, version).await?;
        let include = IncludeObject::read(&self.call.query);
        lists::stored(registry, &self.target.entry, &stored, representation, include, self.now())
    }

    fn is_components(&self) -> bool {
        let row = &self.target.entry.resource;
        row.group.is_empty() && row.plural == "componentstatuses"
    }

    /// The status of one component, or of all that are selected.
    async fn components(&self) -> Result<Answer, ApiError> {
        let options = ListOptions::read(&self.call.query, false)?;
        let selection = Selection::new(&self.target, &options)?;
        let mut all = components::statuses(&self.kube.registry).await;
        all.retain(|one| selection.matches_object(one));
        if self.call.info.verb == "get" {
            let one = all.pop().ok_or_else(|| self.target.not_found())?;
            return self.answer(StatusCode::OK, one);
        }
        let representation = self.call.representation(Offer::Resource)?;
        let include = IncludeObject::read(&self.call.query);
        Ok(lists::unstored(&self.target.entry, all, representation, include, self.now()))
    }

    async fn get_scale(&self) -> Result<Answer, ApiError> {
        let scale = self.kube.registry.get_scale(&self.target).await?;
        self.scale(scale)
    }

    async fn list(&self) -> Result<Answer, ApiError> {
        let representation = self.call.representation(self.offer())?;
        let options = ListOptions::read(&self.call.query, false)?;
        let registry = self.kube.registry.clone();
        let gzip = answer::accepts_gzip(&self.call.head.headers);
        let include = IncludeObject::read(&self.call.query);
        let style = lists::Style { representation, include, gzip, now: self.now() };
        lists::list(registry, self.target.clone(), options, style).await
    }

    async fn watch(&self) -> Result<Answer, ApiError> {
        let representation = self.call.representation(Offer::Watch)?;
        let options = ListOptions::read(&self.call.query, true)?;
        let request = WatchRequest {
            target: self.target.clone(),
            options,
            representation,
            include: IncludeObject::read(&self.call.query),
        };
        let events =
            watch::open(self.kube.registry.clone(), request, self.kube.shutdown.clone()).await?;
        let running = Running::watch(&Labels::of(self.call, &self.kube.registry.catalog));
        let events = events.map(move |event| {
            // Counted as long as the stream exists.
            let _open = &running;
            event
        });
        let body = crate::net::BoxedBody::stream(events);
        Ok(answer::streamed(representation.encoding.stream_content_type(), body))
    }

    async fn create(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.call.query, "CreateOptions")?;
        let context = self.context(options);
        let object = self.decode(body, &context)?;
        let created = self.kube.registry.create(&self.target, object, &context).await;
        self.pass_on_warnings(&context);
        self.answer(StatusCode::CREATED, created?)
    }

    fn decode(&self, body: &Bytes, context: &WriteContext) -> Result<object::Object, ApiError> {
        let entry = &self.target.entry;
        self.read(entry.gvk(), context, |format| entry.decode_body(format, body))
    }

    /// Reads a body that should be of the subresource's own kind.
    fn decode_subresource(
        &self,
        body: &Bytes,
        context: &WriteContext,
    ) -> Result<object::Object, ApiError> {
        let row = &self.target.entry.resource;
        let known = row.subresource(&self.call.info.subresource);
        let kind = known.ok_or_else(ApiError::no_such_path)?.kind.clone();
        let schema = Schema::builtin();
        let type_id = schema.type_of_kind(&kind).ok_or_else(ApiError::no_such_path)?;
        self.read(kind.clone(), context, |format| {
            codec::decode_object(schema, type_id, &kind, format, body)
                .map_err(|error| ApiError::bad_request(error.to_string()))
        })
    }

    /// Reads a body; fields that it should not have are an error or warnings, as the client wants.
    fn read(
        &self,
        kind: GroupVersionKind,
        context: &WriteContext,
        decode: impl FnOnce(Format) -> Result<Decoded, ApiError>,
    ) -> Result<object::Object, ApiError> {
        let decoded = decode(self.body_format()?.into())?;
        match (context.options.field_validation, decoded.strict_problem()) {
            (FieldValidation::Strict, Some(problem)) => {
                let error = ObjectError::cannot_be_handled(&kind, &kind.kind, problem);
                return Err(ApiError::bad_request(error.to_string()));
            }
            (FieldValidation::Warn, _) => {
                decoded.warnings().into_iter().for_each(|text| self.call.warnings.add(text));
            }
            _ => {}
        }
        Ok(into_object(decoded.value))
    }

    fn body_format(&self) -> Result<BodyFormat, ApiError> {
        BodyFormat::of_content_type(self.call.header(http::header::CONTENT_TYPE))
    }

    fn is_bindings(&self) -> bool {
        let row = &self.target.entry.resource;
        row.group.is_empty() && row.plural == "bindings"
    }

    /// Gives a pod its node, by either of two paths.
    async fn bind(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.call.query, "CreateOptions")?;
        let context = self.context(options);
        let mut binding = match self.is_bindings() {
            true => self.decode(body, &context)?,
            false => self.decode_subresource(body, &context)?,
        };
        check_namespace(&self.target, &mut binding)?;
        let registry = &self.kube.registry;
        let pods = registry.catalog.entry("", "v1", "pods").ok_or_else(ApiError::no_such_path)?;
        let name = match self.is_bindings() {
            true => object::name(&binding),
            false => self.target.name.as_str(),
        };
        let pod = Target {
            entry: pods.clone(),
            name: name.to_owned(),
            subresource: "binding".to_owned(),
            ..self.target.clone()
        };
        registry.bind(&pod, &binding, &context).await?;
        self.plain(StatusCode::CREATED, created())
    }

    /// Deletes a pod if its disruption budget has room for that.
    async fn evict(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.call.query, "CreateOptions")?;
        let context = self.context(options);
        let eviction = self.decode_subresource(body, &context)?;
        let options = match eviction.get("deleteOptions") {
            Some(options) => DeleteOptions::from_body(options)?,
            None => DeleteOptions::default(),
        };
        admission::evict(&self.kube.registry, &self.target, &self.user).await?;
        self.kube.registry.evict(&self.target, &eviction, options, &context).await?;
        self.plain(StatusCode::CREATED, created())
    }

    /// Makes a token for a service account.
    async fn token(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.call.query, "CreateOptions")?;
        let context = self.context(options);
        let request = self.decode_subresource(body, &context)?;
        let (registry, issuer) = (&self.kube.registry, &self.kube.options.tokens);
        let request = accounts::request_token(registry, issuer, &self.target, request, &context);
        self.plain(StatusCode::CREATED, request.await?)
    }

    /// Answers a review.
    async fn review(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.call.query, "CreateOptions")?;
        let context = self.context(options);
        let mut review = self.decode(body, &context)?;
        check_namespace(&self.target, &mut review)?;
        let registry = &self.kube.registry;
        let answer = if self.target.entry.resource.kind == "TokenReview" {
            let issuer = &self.kube.options.tokens;
            accounts::review_token(registry, issuer, &self.target, review, &context).await?
        } else {
            reviews::review(registry, &self.target, &self.user, review, &context)?
        };
        self.plain(StatusCode::CREATED, answer)
    }

    /// What needs a node's kubelet, or a connection to a pod: as far as it can be answered without.
    async fn connect(&self) -> Result<Answer, ApiError> {
        let (object, _) = self.kube.registry.load(&self.target).await?;
        let (kind, name) = (&self.target.entry.resource.kind, &self.target.name);
        let has_node = !object::text_at(&object, &["spec", "nodeName"]).is_empty();
        match (kind.as_str(), self.call.info.subresource.as_str()) {
            ("Pod", "log") if !has_node => Ok(answer::text(StatusCode::NO_CONTENT, String::new())),
            ("Pod", "exec" | "attach" | "portforward") if !has_node => {
                Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")))
            }
            _ => Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "this server opens no connections to nodes, pods and services; ask the kubelet itself",
            )),
        }
    }

    async fn update(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.call.query, "UpdateOptions")?;
        let context = self.context(options);
        let object = self.decode(body, &context)?;
        let saved = self.kube.registry.update(&self.target, object, &context).await;
        self.pass_on_warnings(&context);
        let saved = saved?;
        self.answer(code_of(saved.created), saved.object)
    }

    async fn update_scale(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = WriteOptions::read(&self.call.query, "UpdateOptions")?;
        let context = self.context(options);
        let format = BodyFormat::of_content_type(self.call.header(http::header::CONTENT_TYPE))?;
        let scale = into_object(encoding::decode_value(body, format)?);
        let scale = self.kube.registry.update_scale(&self.target, scale, &context).await?;
        self.scale(scale)
    }

    async fn patch(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let content_type = self.call.header(http::header::CONTENT_TYPE);
        let Some(kind) = PatchKind::of_content_type(content_type) else {
            return Err(unsupported_patch());
        };
        if kind == PatchKind::Strategic && self.target.entry.custom.is_some() {
            return Err(ApiError::unsupported_media_type(&CUSTOM_PATCHES));
        }
        let scale = self.call.info.subresource == "scale";
        if scale && kind == PatchKind::Apply {
            return Err(unsupported_patch());
        }
        let options = WriteOptions::read_patch(&self.call.query, kind == PatchKind::Apply)?;
        let context = self.context(options);
        let registry = &self.kube.registry;
        if scale {
            let scale = registry.patch_scale(&self.target, kind, body, &context).await?;
            return self.scale(scale);
        }
        let saved = match kind {
            PatchKind::Apply => registry.apply(&self.target, body, &context).await,
            _ => registry.patch(&self.target, kind, body, &context).await,
        };
        self.pass_on_warnings(&context);
        let saved = saved?;
        self.answer(code_of(saved.created), saved.object)
    }

    fn delete_options(&self, body: &Bytes) -> Result<DeleteOptions, ApiError> {
        if body.is_empty() {
            return DeleteOptions::from_query(&self.call.query);
        }
        let format = BodyFormat::of_content_type(self.call.header(http::header::CONTENT_TYPE))?;
        let value = encoding::decode_delete_options(body, format)?;
        DeleteOptions::from_body(&value)
    }

    async fn delete(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = self.delete_options(body)?;
        self.warn_of_orphans(&options);
        admission::delete(&self.kube.registry, &self.target, &self.user).await?;
        let deleted = self.kube.registry.delete(&self.target, &options, self.now()).await?;
        match deleted {
            Deleted::Gone(object) if !self.target.entry.strategy.returns_deleted => {
                self.plain(StatusCode::OK, success_status(&self.target, &object))
            }
            Deleted::Gone(object) | Deleted::Marked(object) => self.answer(StatusCode::OK, object),
        }
    }

    /// Jobs leave their pods behind unless the client says otherwise.
    fn warn_of_orphans(&self, options: &DeleteOptions) {
        let row = &self.target.entry.resource;
        if options.propagation.is_none() && row.group == "batch" && row.plural == "jobs" {
            self.call.warnings.add("child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning");
        }
    }

    async fn delete_collection(&self, body: &Bytes) -> Result<Answer, ApiError> {
        let options = self.delete_options(body)?;
        let list = ListOptions::read(&self.call.query, false)?;
        let representation = self.call.representation(self.offer())?;
        let registry = &self.kube.registry;
        let mut objects = Vec::new();
        let mut keep = |object| objects.push(object);
        let revision = registry
            .delete_collection(&self.target, list, &options, &self.user, self.now(), &mut keep)
            .await?;
        Ok(lists::deleted(&self.target.entry, objects, revision, representation, self.now()))
    }
}

/// Custom resources have no strategic merge patch.
const CUSTOM_PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// The answer to what was created and is no object.
fn created() -> object::Object {
    into_object(serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    }))
}

/// What clients of a deprecated API are told with every answer.
fn deprecation(target: &Target) -> Option<&'static str> {
    match (target.entry.resource.group.as_str(), target.entry.resource.plural.as_str()) {
        ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        _ => None,
    }
}

fn unsupported_patch() -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UnsupportedMediaType",
        "415: Unsupported Media Type",
    )
    .with_details(Default::default())
}

fn code_of(created: bool) -> StatusCode {
    if created { StatusCode::CREATED } else { StatusCode::OK }
}
