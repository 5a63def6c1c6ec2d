//! The door on one core: what it is made of, how it starts, and the handler of its requests.

use std::cell::{Cell, RefCell, RefMut};
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
use super::authn::tokens::TokenIssuer;
use super::discovery::Discovery;
use super::discovery::openapi::CustomOpenApi;
use super::registry::Registry;
use super::registry::catalog::Catalog;
use super::registry::context::Random;
use super::resources::services::AddressRange;
use super::schema::Schema;
use super::storage::embedded::Embedded;
use super::{authz, bootstrap, chain, compaction, controllers, crd};
use crate::net::{BoxError, ConnectionInfo};

/// What the door is told at start.
#[derive(Debug, Clone)]
pub struct KubeOptions {
    /// Told to clients as the address to reach this server at.
    pub advertise_address: SocketAddr,
    pub service_addresses: AddressRange,
    /// Certificates of those who vouch for clients, PEM, for other servers to check clients by.
    pub client_authorities: String,
    /// Makes and checks the tokens of service accounts.
    pub tokens: Arc<TokenIssuer>,
    /// Empty namespaces that are being deleted.
    pub namespace_controller: bool,
    /// The system's own objects are there; shared by all cores.
    pub bootstrapped: Arc<AtomicBool>,
}

/// Discovery documents, and the generation of the catalog that they tell.
struct Discovered {
    generation: u64,
    documents: Rc<Discovery>,
    custom: Rc<CustomOpenApi>,
}

/// The door on one core.
pub struct Kube {
    pub registry: Rc<Registry>,
    discovery: RefCell<Discovered>,
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
            policy: Default::default(),
        });
        let address = options.advertise_address.to_string();
        let documents = Rc::new(Discovery::new(schema.resources(), &address));
        let discovery =
            RefCell::new(Discovered { generation: 0, documents, custom: Rc::default() });
        let writes_in_flight = Cell::new(0);
        Rc::new(Kube { registry, discovery, options, store, shutdown, writes_in_flight })
    }

    /// The discovery documents, custom resources among them.
    pub fn discovery(&self) -> Rc<Discovery> {
        self.discovered().documents.clone()
    }

    /// The OpenAPI documents of custom resources.
    pub fn custom_open_api(&self) -> Rc<CustomOpenApi> {
        self.discovered().custom.clone()
    }

    fn discovered(&self) -> RefMut<'_, Discovered> {
        let catalog = &self.registry.catalog;
        let mut known = self.discovery.borrow_mut();
        if known.generation != catalog.generation() {
            let entries = catalog.all();
            let rows: Vec<_> = entries.iter().map(|entry| entry.resource.clone()).collect();
            let custom = entries
                .iter()
                .filter_map(|entry| Some((&entry.resource, &entry.custom.as_ref()?.schema)));
            known.custom = Rc::new(CustomOpenApi::new(custom));
            let address = self.options.advertise_address.to_string();
            known.documents = Rc::new(Discovery::new(&rows, &address));
            known.generation = catalog.generation();
        }
        known
    }

    /// Starts what runs on every core. `first` on the one that also runs
    /// [`start_background`](Self::start_background).
    pub fn start_following(self: &Rc<Self>, first: bool) {
        let kube = self.clone();
        spawn_local(async move { crd::follow::run(&kube.registry, &kube.shutdown, first).await });
        let kube = self.clone();
        spawn_local(async move { authz::follow::run(&kube.registry, &kube.shutdown).await });
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
