//! SIGINT and SIGTERM, and the wish to stop that they cause.

/// A handle on the wish to stop, shared by all cores.
#[derive(Debug, Clone)]
pub struct Shutdown(());

impl Shutdown {
    /// Resolves once somebody (a signal, a door that can't go on) wants everything to stop.
    pub async fn requested(&self) {
        todo!()
    }

    pub fn is_requested(&self) -> bool {
        todo!()
    }

    /// Asks all cores to stop.
    pub fn request(&self) {
        todo!()
    }
}
