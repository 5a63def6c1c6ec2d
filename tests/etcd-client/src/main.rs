//! Drives a server through the `etcd-client` crate: one line for each area that works, an exit
//! status of 1 and the reason for the first that does not.
//!
//! Usage: etcd-client-check ADDRESS, as in 127.0.0.1:2379. The server must be fresh.

mod admin;
mod kv;
mod users;
mod waiting;

use etcd_client::{Client, Error};

type Checked = Result<(), Error>;

/// Runs an area and says so.
macro_rules! run {
    ($client:expr, $($check:path),* $(,)?) => {
        $(
            $check(&mut $client.clone()).await?;
            println!("ok {}", stringify!($check));
        )*
    };
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Checked {
    let address = std::env::args().nth(1).expect("usage: etcd-client-check ADDRESS");
    let client = Client::connect([address], None).await?;
    run!(
        client,
        kv::put,
        kv::get,
        kv::get_stream,
        kv::delete,
        kv::compact,
        kv::transaction,
        waiting::watch,
        waiting::watch_history,
        waiting::lease,
        waiting::lock,
        waiting::election,
        admin::status,
        admin::alarm,
        admin::hash,
        admin::leadership,
        admin::members,
        users::authentication,
    );
    Ok(())
}

/// Fails the run with what was expected.
fn ensure(holds: bool, what: &str) {
    assert!(holds, "{what}");
}
