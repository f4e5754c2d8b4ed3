//! Something that speaks HTTP/2 and knows no journal: it answers each request with 404, as a router does that has lost its way.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;
/// `:status: 404` is the thirteenth of HPACK's static headers.
const NOT_FOUND: u8 = 0x8d;

pub(crate) struct Imposter {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Imposter {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(socket, count.clone()));
            }
        });
        Self { address, asked }
    }

    /// How many requests it has answered.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(mut socket: TcpStream, asked: Arc<AtomicUsize>) -> io::Result<()> {
    socket.read_exact(&mut [0; PREFACE_BYTES]).await?;
    socket.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await?;
    loop {
        let mut head = [0; HEAD_BYTES];
        socket.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        match (head[3], head[4] & ACK) {
            (SETTINGS, 0) => socket.write_all(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]).await?,
            (PING, 0) => {
                let pong = [&[0, 0, 8, PING, ACK, 0, 0, 0, 0], &body[..]].concat();
                socket.write_all(&pong).await?;
            }
            (HEADERS, _) => {
                asked.fetch_add(1, Ordering::SeqCst);
                let mut reply = vec![0, 0, 1, HEADERS, END_STREAM_AND_HEADERS];
                reply.extend(&head[5..HEAD_BYTES]);
                reply.push(NOT_FOUND);
                socket.write_all(&reply).await?;
            }
            _ => {}
        }
    }
}
