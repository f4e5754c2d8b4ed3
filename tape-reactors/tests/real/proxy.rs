//! A proxy that can swallow answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Passes connections on. It ends with this.
pub(crate) struct Proxy {
    address: String,
    swallows: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(upstream: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let swallows = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let swallowing = Arc::clone(&swallows);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let far = TcpStream::connect(&upstream).await.unwrap();
                connections.spawn(pass(near, far, Arc::clone(&swallowing)));
            }
        });
        Self {
            address,
            swallows,
            _tasks: tasks,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// From now on, requests arrive and answers do not, or both do.
    pub(crate) fn swallow(&self, swallows: bool) {
        self.swallows.store(swallows, Ordering::SeqCst);
    }
}

async fn pass(near: TcpStream, far: TcpStream, swallows: Arc<AtomicBool>) {
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    let requests = async { tokio::io::copy(&mut from_near, &mut to_far).await };
    let answers = async {
        let mut buffer = vec![0; 16 * 1_024];
        loop {
            let read = from_far.read(&mut buffer).await?;
            if read == 0 {
                return std::io::Result::Ok(());
            }
            if !swallows.load(Ordering::SeqCst) {
                to_near.write_all(&buffer[..read]).await?;
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        _ = answers => {}
    }
}
