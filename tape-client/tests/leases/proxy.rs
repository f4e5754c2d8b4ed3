//! A proxy between a client and a server, whose connections can be broken in the ways in which networks break them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to open connections.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Passed,
    /// Both sides are told at once.
    Reset,
    /// Nothing is passed any more, and neither side is told.
    Swallowed,
    /// The client is told; the server is once [`Proxy::tell_servers`] says so.
    ClientTold,
}

/// The proxy. New connections always work.
pub(crate) struct Proxy {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    fault: watch::Sender<Fault>,
    told: watch::Sender<bool>,
    given_up: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            target: Arc::new(Mutex::new(target)),
            fault: watch::Sender::new(Fault::Passed),
            told: watch::Sender::new(false),
            given_up: watch::Sender::new(false),
        };
        let (target, fault, told) = (proxy.target.clone(), proxy.fault.clone(), proxy.told.clone());
        let given_up = proxy.given_up.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let to = *target.lock().unwrap();
                tokio::spawn(pass(
                    client,
                    to,
                    fault.subscribe(),
                    told.subscribe(),
                    given_up.clone(),
                ));
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("tape://{}", self.address)
    }

    /// Makes new connections lead to `target`.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.target.lock().unwrap() = target;
    }

    pub(crate) fn reset(&self) {
        self.fault.send_replace(Fault::Reset);
    }

    pub(crate) fn swallow(&self) {
        self.fault.send_replace(Fault::Swallowed);
    }

    pub(crate) fn tell_clients(&self) {
        self.fault.send_replace(Fault::ClientTold);
    }

    /// Waits until a server has closed a connection whose bytes are swallowed.
    pub(crate) async fn given_up_by_the_server(&self) {
        let _ = self.given_up.subscribe().wait_for(|given_up| *given_up).await;
    }

    pub(crate) fn tell_servers(&self) {
        self.told.send_replace(true);
    }
}

async fn pass(
    mut client: TcpStream,
    to: SocketAddr,
    mut fault: watch::Receiver<Fault>,
    mut told: watch::Receiver<bool>,
    given_up: watch::Sender<bool>,
) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
        _ = fault.changed() => {}
    }
    let fault = *fault.borrow();
    match fault {
        Fault::Passed | Fault::Reset => {}
        Fault::Swallowed => {
            while server.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
            given_up.send_replace(true);
            // The client hears nothing of it.
            std::future::pending().await
        }
        Fault::ClientTold => {
            drop(client);
            let _ = told.wait_for(|told| *told).await;
        }
    }
}
