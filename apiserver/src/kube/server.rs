//! The door on one core: what it is made of, how it starts, and the handler of its requests.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use mainstay_engine::Store;
use mainstay_engine::runtime::signal::Shutdown;
use mainstay_engine::runtime::spawn_local;

use super::answer::Answer;
use super::discovery::Discovery;
use super::registry::Registry;
use super::registry::catalog::Catalog;
use super::registry::context::Random;
use super::resources::services::AddressRange;
use super::schema::Schema;
use super::storage::embedded::Embedded;
use super::{bootstrap, chain, compaction, controllers};
use crate::net::{BoxError, ConnectionInfo};

/// What the door is told at start.
#[derive(Debug, Clone)]
pub struct KubeOptions {
    /// Told to clients as the address to reach this server at.
    pub advertise_address: SocketAddr,
    pub service_addresses: AddressRange,
    /// Empty namespaces that are being deleted.
    pub namespace_controller: bool,
    /// The system's own objects are there; shared by all cores.
    pub bootstrapped: Arc<AtomicBool>,
}

/// The door on one core.
pub struct Kube {
    pub registry: Rc<Registry>,
    pub discovery: Discovery,
    pub options: KubeOptions,
    pub store: Store,
    pub shutdown: Shutdown,
    /// Writes under way, those included that nobody waits for any more.
    pub writes_in_flight: Cell<usize>,
}

impl Kube {
    pub fn new(store: Store, shutdown: Shutdown, options: KubeOptions) -> Rc<Kube> {
        let schema = Schema::builtin();
        let registry = Rc::new(Registry {
            storage: Rc::new(Embedded::new(store.clone())),
            catalog: Catalog::new(schema),
            random: Random::default(),
            service_addresses: options.service_addresses,
        });
        let address = options.advertise_address.to_string();
        let discovery = Discovery::new(schema.resources(), &address);
        let writes_in_flight = Cell::new(0);
        Rc::new(Kube { registry, discovery, options, store, shutdown, writes_in_flight })
    }

    /// Starts what runs once in the whole process: call it on one core.
    pub fn start_background(self: &Rc<Self>) {
        let kube = self.clone();
        spawn_local(async move {
            bootstrap::run(&kube.registry, &kube.options, &kube.shutdown).await;
        });
        let kube = self.clone();
        spawn_local(async move { compaction::run(&kube.registry, &kube.shutdown).await });
        if self.options.namespace_controller {
            let kube = self.clone();
            spawn_local(async move {
                let run = || controllers::namespace::run(&kube.registry, &kube.shutdown);
                controllers::while_leading(&kube.store, &kube.shutdown, run).await;
            });
        }
    }

    pub fn is_bootstrapped(&self) -> bool {
        self.options.bootstrapped.load(Ordering::Acquire)
    }

    /// Answers one request.
    pub async fn handle<B>(
        self: Rc<Self>,
        request: Request<B>,
        connection: Rc<ConnectionInfo>,
    ) -> Answer
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        chain::serve(self, request, connection).await
    }
}
