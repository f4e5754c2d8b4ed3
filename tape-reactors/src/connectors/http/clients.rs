//! Clients of one upstream. A connection must be established well before the time of its call is over. A failure to connect is then
//! reported in time, and says that nothing was sent.

use crate::http::{CONNECT, HttpError, client};
use reqwest::Client;
use reqwest::header::HeaderMap;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait for a connection is halved at most this often, down to some 10 ms.
const HALVINGS_MAX: u32 = 10;

/// Clients that differ in how long they wait for a connection. A client has one such time for all its requests, but the time of a call is
/// known only with the call.
pub(super) struct Clients {
    /// Sent with each request.
    headers: HeaderMap,
    /// The clients, by how often the longest wait is halved.
    made: Mutex<BTreeMap<u32, Client>>,
}

impl Clients {
    /// Clients that send these headers with each request.
    ///
    /// # Errors
    /// [`HttpError`] where TLS cannot be set up.
    pub(super) fn new(headers: HeaderMap) -> Result<Self, HttpError> {
        let clients = Self {
            headers,
            made: Mutex::default(),
        };
        clients.halved(0)?;
        Ok(clients)
    }

    /// A client that waits for a connection for about half of the time until `deadline`, and for at most three quarters of it.
    ///
    /// # Errors
    /// [`HttpError`] where TLS cannot be set up.
    pub(super) fn until(&self, deadline: Instant) -> Result<Client, HttpError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let fits = |times: &u32| connect_within(*times) <= left * 3 / 4;
        self.halved((0..HALVINGS_MAX).find(fits).unwrap_or(HALVINGS_MAX))
    }

    fn halved(&self, times: u32) -> Result<Client, HttpError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&times) {
            return Ok(client.clone());
        }
        let client = client(connect_within(times)).default_headers(self.headers.clone());
        let client = client.build().map_err(HttpError::new)?;
        made.insert(times, client.clone());
        Ok(client)
    }
}

fn connect_within(halvings: u32) -> Duration {
    CONNECT / (1 << halvings)
}
