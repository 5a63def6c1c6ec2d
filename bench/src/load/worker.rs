//! One loader thread: its connections, its share of the keys to prepare, its clients.

use super::grpc::{CallError, Channel, Method};
use super::lease_object::lease_value;
use super::pacer::{Pacer, Schedule};
use super::random::Random;
use super::recorder::Recorder;
use super::run::{End, Event, Kind, Plan};
use super::template::{self, KeyShape, Template, UpdateTemplates};
use super::watch;
use super::wire;
use super::workload::{
    KeyChoice, Outcome, Puts, Ranges, Revisions, Updates, Workload, lease_shape, stamped_value,
};
use crate::limits;
use bytes::{Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;
use tokio::sync::oneshot;

/// What all threads of a run share.
pub struct Shared {
    /// What to do.
    pub plan: Plan,
    /// Stop sending.
    pub stop: AtomicBool,
    /// Operations started.
    pub issued: AtomicU64,
    /// Last known revision of each key.
    pub revisions: Revisions,
    /// How many puts were acknowledged, once the writers of a watch run have ended.
    pub puts_expected: tokio::sync::watch::Sender<Option<u64>>,
    /// One per thread.
    pub recorders: Vec<Arc<Recorder>>,
}

/// The signal to begin.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// When the first request is due.
    pub start: Instant,
    /// When no further request is sent.
    pub deadline: Option<Instant>,
}

/// Runs thread `number` to its end.
///
/// # Errors
/// When connecting or preparing failed; the text says what.
pub fn run_thread(
    number: usize,
    shared: &Arc<Shared>,
    start: oneshot::Receiver<Start>,
    events: &Sender<Event>,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start an event loop: {error}"))?;
    let local = tokio::task::LocalSet::new();
    let work = async {
        let channels = connect(number, &shared.plan).await.map_err(|error| error.to_string())?;
        if let Kind::Watch { .. } = shared.plan.kind {
            return watch::run(number, shared, &channels, start, events).await;
        }
        if shared.plan.prepare {
            prepare(number, shared, &channels).await.map_err(|error| error.to_string())?;
        }
        drop(events.send(Event::Ready));
        let Ok(start) = start.await else { return Ok(()) }; // another thread failed
        let context = Context::new(number, shared, start)?;
        run_clients(&context, &channels).await;
        Ok(())
    };
    local.block_on(&runtime, work)
}

async fn connect(number: usize, plan: &Plan) -> Result<Vec<Rc<Channel>>, CallError> {
    let mut channels = Vec::new();
    for connection in (number..plan.connections).step_by(plan.threads) {
        let endpoint = &plan.endpoints[connection % plan.endpoints.len()];
        channels.push(Rc::new(Channel::open(endpoint).await?));
    }
    assert!(!channels.is_empty(), "a thread has at least one connection");
    Ok(channels)
}

/// The keys of a run.
#[must_use]
pub fn key_shape(plan: &Plan) -> KeyShape {
    match plan.kind {
        Kind::LeaseFlood => lease_shape(plan.key_space),
        _ => KeyShape::new(&plan.prefix, plan.key_space),
    }
}

fn value(plan: &Plan, shape: &KeyShape) -> Vec<u8> {
    match plan.kind {
        Kind::LeaseFlood => lease_value(shape),
        _ => stamped_value(plan.value_size_bytes, &mut Random::new(plan.seed)),
    }
}

/// Writes this thread's share of the keys, where the workload expects them to exist.
async fn prepare(
    number: usize,
    shared: &Arc<Shared>,
    channels: &[Rc<Channel>],
) -> Result<(), CallError> {
    let plan = &shared.plan;
    if plan.kind == Kind::Put {
        return Ok(());
    }
    let shape = key_shape(plan);
    let template = Rc::new(template::put(&shape, &value(plan, &shape)));
    let next = Rc::new(Cell::new(number as u64));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..limits::PREPARE_IN_FLIGHT {
        let channel = channels[task % channels.len()].clone();
        let (shared, template, next) = (shared.clone(), template.clone(), next.clone());
        tasks.spawn_local(async move {
            let mut buffer = BytesMut::new();
            loop {
                let index = next.get();
                if index >= shared.plan.key_space || shared.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                next.set(index + shared.plan.threads as u64);
                let frame = template.render(index, index, 0, &mut buffer);
                let answer = channel.unary(Method::Put, frame, shared.plan.request_timeout).await?;
                let answer = wire::write_answer(&answer)
                    .map_err(|_| CallError::Protocol("not a PutResponse"))?;
                shared.revisions[index as usize].store(answer.revision, Ordering::Relaxed);
            }
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap_or(Err(CallError::Protocol("a preparing task failed")))?;
    }
    Ok(())
}

/// What the clients of one thread share.
pub struct Context {
    shared: Arc<Shared>,
    recorder: Arc<Recorder>,
    number: usize,
    start: Start,
    pacer: Option<Pacer>,
    buffer: RefCell<BytesMut>,
}

impl Context {
    /// Prepares thread `number` to begin at `start`.
    ///
    /// # Errors
    /// When the system has no timer.
    pub fn new(number: usize, shared: &Arc<Shared>, start: Start) -> Result<Rc<Self>, String> {
        let pacer = shared.plan.rate.map(|rate| {
            let threads = match shared.plan.kind {
                Kind::Watch { .. } => 1, // only the first thread writes
                _ => shared.plan.threads as u64,
            };
            Pacer::new(Schedule { rate, thread: number as u64, threads }, start.start)
        });
        let pacer = pacer.transpose().map_err(|error| format!("cannot make a timer: {error}"))?;
        Ok(Rc::new(Self {
            recorder: shared.recorders[number].clone(),
            shared: shared.clone(),
            number,
            start,
            pacer,
            buffer: RefCell::new(BytesMut::with_capacity(256 * 1024)),
        }))
    }

    /// Waits for the next operation's turn: its intended time, or `None` at the end.
    pub async fn next(&self) -> Option<Instant> {
        if self.shared.stop.load(Ordering::Relaxed) {
            return None;
        }
        if let End::Total(total) = self.shared.plan.end
            && self.shared.issued.load(Ordering::Relaxed) >= total
        {
            return None;
        }
        let intended = match &self.pacer {
            Some(pacer) => pacer.next(self.start.deadline).await?,
            None => Instant::now(),
        };
        if self.start.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return None;
        }
        let issued = self.shared.issued.fetch_add(1, Ordering::Relaxed);
        match self.shared.plan.end {
            End::Total(total) if issued >= total => None,
            _ => Some(intended),
        }
    }

    /// When the run began.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start.start
    }

    /// Where this thread records.
    #[must_use]
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The buffer that requests are rendered in; never held across an await.
    #[must_use]
    pub fn buffer(&self) -> &RefCell<BytesMut> {
        &self.buffer
    }

    /// What is shared with the other threads.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Wakes paced clients; never returns for a closed loop.
    pub async fn drive(&self) {
        if let Some(pacer) = &self.pacer
            && let Err(error) = pacer.drive().await
        {
            self.recorder.with(|measures| measures.failure(&format!("timer: {error}")));
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        std::future::pending::<()>().await;
    }
}

async fn run_clients(context: &Rc<Context>, channels: &[Rc<Channel>]) {
    let plan = &context.shared.plan;
    let requests = Requests::new(plan);
    tokio::time::sleep_until(context.start.start.into()).await;
    let mut clients = tokio::task::JoinSet::new();
    for (position, client) in (context.number..plan.clients).step_by(plan.threads).enumerate() {
        let workload = requests.workload(plan, client, &context.shared.revisions);
        let random = Random::new(plan.seed.wrapping_mul(0x1000_0001).wrapping_add(client as u64));
        let channel = channels[position % channels.len()].clone();
        clients.spawn_local(run_client(context.clone(), channel, workload, random));
    }
    let all_ended = async {
        while let Some(result) = clients.join_next().await {
            if let Err(error) = result {
                context.recorder.with(|measures| measures.failure(&format!("client: {error}")));
            }
        }
    };
    tokio::select! {
        () = all_ended => {}
        () = context.drive() => {}
    }
}

/// The requests of a run, encoded once.
struct Requests {
    simple: Arc<Template>,
    update: Option<Arc<UpdateTemplates>>,
}

impl Requests {
    fn new(plan: &Plan) -> Self {
        let shape = key_shape(plan);
        let value = value(plan, &shape);
        let simple = match plan.kind {
            Kind::Range { list_limit: Some(limit), serializable } => {
                template::list(&shape, limit, serializable)
            }
            Kind::Range { list_limit: None, serializable } => template::get(&shape, serializable),
            _ => template::put(&shape, &value),
        };
        let updates = matches!(plan.kind, Kind::TxnPut | Kind::LeaseFlood);
        let update = updates.then(|| Arc::new(UpdateTemplates::new(&shape, &value)));
        Self { simple: Arc::new(simple), update }
    }

    fn workload(&self, plan: &Plan, client: usize, revisions: &Revisions) -> Box<dyn Workload> {
        let (key_space, client) = (plan.key_space, client as u64);
        match &self.update {
            Some(update) => {
                let choice = match plan.kind {
                    Kind::LeaseFlood => KeyChoice::Own {
                        next: client,
                        first: client,
                        step: plan.clients as u64,
                        key_space,
                    },
                    _ => KeyChoice::Random { key_space },
                };
                Box::new(Updates::new(update.clone(), revisions.clone(), choice))
            }
            None if matches!(plan.kind, Kind::Range { .. }) => {
                Box::new(Ranges::new(self.simple.clone(), key_space))
            }
            None => Box::new(Puts::new(self.simple.clone(), key_space)),
        }
    }
}

async fn run_client(
    context: Rc<Context>,
    channel: Rc<Channel>,
    mut workload: Box<dyn Workload>,
    mut random: Random,
) {
    while let Some(intended) = context.next().await {
        let generation = channel.generation();
        let result = operation(&context, &channel, workload.as_mut(), &mut random).await;
        context.recorder.with(|measures| match &result {
            Ok(conflicts) => {
                measures.success(intended.elapsed());
                measures.conflicts += u64::from(*conflicts);
            }
            Err(error) => measures.failure(&error.to_string()),
        });
        if result.is_err_and(|error| error.breaks_connection()) {
            channel.recover(generation).await;
        }
    }
}

/// One operation, repeated while it meets conflicts; returns how many it met.
async fn operation(
    context: &Context,
    channel: &Channel,
    workload: &mut dyn Workload,
    random: &mut Random,
) -> Result<u32, CallError> {
    let mut request = workload.next(random, &mut context.buffer.borrow_mut());
    for conflicts in 0..limits::CONFLICT_RETRIES_MAX {
        let answer = call(context, channel, request).await?;
        match workload.finish(&answer) {
            Ok(Outcome::Done) => return Ok(conflicts),
            Ok(Outcome::Conflict) => {
                request = workload.again(random, &mut context.buffer.borrow_mut());
            }
            Err(_) => return Err(CallError::Protocol("the response is no valid message")),
        }
    }
    Err(CallError::Conflicts(limits::CONFLICT_RETRIES_MAX))
}

async fn call(
    context: &Context,
    channel: &Channel,
    (method, frame): (Method, Bytes),
) -> Result<Bytes, CallError> {
    channel.unary(method, frame, context.shared.plan.request_timeout).await
}
