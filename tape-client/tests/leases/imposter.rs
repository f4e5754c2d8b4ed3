//! A peer that speaks HTTP/2 and is not a journal: it refuses each request, like a misconfigured router or a proxy that requires a login.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;
/// HPACK's literal header whose name is spelt out.
const LITERAL: u8 = 0;
/// Its answers, in turn: plain HTTP errors, and those of gRPC peers that are not a journal.
const REFUSALS: [&[(&str, &str)]; 5] = [
    &[(":status", "404")],
    &[(":status", "401")],
    &[(":status", "403")],
    &[
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "12"),
    ],
    &[
        (":status", "200"),
        ("content-type", "application/grpc"),
        ("grpc-status", "16"),
    ],
];

pub(crate) struct Imposter {
    pub(crate) address: SocketAddr,
    asked: watch::Sender<usize>,
}

impl Imposter {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = watch::Sender::new(0);
        let count = asked.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(socket, count.clone()));
            }
        });
        Self { address, asked }
    }

    /// The number of requests it has answered.
    pub(crate) fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    /// Waits until it has refused requests in each way, once for each of `askers`, since it had answered `before`.
    pub(crate) async fn refused_in_each_way(&self, before: usize, askers: usize) {
        let enough = before + askers * REFUSALS.len();
        let _ = self.asked.subscribe().wait_for(|asked| *asked >= enough).await;
    }
}

/// A block of headers.
fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(LITERAL);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

async fn answer(mut socket: TcpStream, asked: watch::Sender<usize>) -> io::Result<()> {
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
                let block = headers(REFUSALS[*asked.borrow() % REFUSALS.len()]);
                let mut reply = vec![
                    0,
                    0,
                    u8::try_from(block.len()).unwrap(),
                    HEADERS,
                    END_STREAM_AND_HEADERS,
                ];
                reply.extend(&head[5..HEAD_BYTES]);
                reply.extend(block);
                socket.write_all(&reply).await?;
                asked.send_modify(|asked| *asked += 1);
            }
            _ => {}
        }
    }
}
