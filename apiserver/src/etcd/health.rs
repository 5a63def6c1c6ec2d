//! Service grpc.health.v1.Health: the server as a whole is what can be asked for.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use mainstay_proto::health::{HealthCheckRequest, HealthCheckResponse, ServingStatus};

use super::{Caller, Door, limits};
use crate::metrics::CallGuard;
use crate::net::grpc::{self, Code, Status};
use crate::net::{BoxedBody, RequestBody};

impl Door {
    /// `None` for a service that is not ours to speak of.
    fn serving(&self, service: &str) -> Option<ServingStatus> {
        if !service.is_empty() && !super::methods::is_service(service) {
            return None;
        }
        Some(if self.shutdown.is_requested() {
            ServingStatus::NotServing
        } else {
            ServingStatus::Serving
        })
    }
}

pub(super) async fn check(
    door: Rc<Door>,
    request: HealthCheckRequest,
) -> Result<HealthCheckResponse, Status> {
    match door.serving(&request.service) {
        Some(status) => Ok(HealthCheckResponse { status: status.into() }),
        None => Err(Status::new(Code::NotFound, "unknown service")),
    }
}

/// Tells the status now and again when it changes, which it does once: at shutdown.
pub(super) async fn watch(
    door: Rc<Door>,
    caller: &Caller,
    body: RequestBody,
    call: CallGuard,
) -> Response<BoxedBody> {
    let service = match grpc::request::<_, HealthCheckRequest>(body, limits::MESSAGE_BYTES).await {
        Ok(request) => request.service,
        Err(status) => {
            call.end(status.code);
            return grpc::refuse(&status);
        }
    };
    let told = Told { door: door.clone(), service, call, answers: 0 };
    let messages = stream::unfold(told, async |mut told| {
        let answer = told.next().await?;
        Some((Ok(answer), told))
    });
    door.stream(caller, messages)
}

/// A client that is told about changes.
struct Told {
    door: Rc<Door>,
    service: String,
    call: CallGuard,
    answers: u32,
}

impl Told {
    async fn next(&mut self) -> Option<Bytes> {
        match self.answers {
            0 => {}
            1 => self.door.shutdown.requested().await,
            _ => {
                self.call.end(Code::Ok);
                return None;
            }
        }
        self.answers += 1;
        let status = self.door.serving(&self.service).unwrap_or(ServingStatus::ServiceUnknown);
        Some(grpc::encode(&HealthCheckResponse { status: status.into() }))
    }
}
