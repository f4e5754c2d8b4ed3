//! An HTTPS endpoint that takes webhooks, on a free port of this machine, under an authority of its own.

use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request: its headers, with names in small letters, and its body.
pub(crate) type Posted = (Vec<(String, String)>, Vec<u8>);

/// The endpoint. Its threads end with the process.
pub(crate) struct Secured {
    pub(crate) port: u16,
    /// The certificate of the authority that signed that of the endpoint.
    pub(crate) authority: String,
    posted: Arc<Mutex<Vec<Posted>>>,
}

impl Secured {
    /// An endpoint whose certificate is for a name.
    pub(crate) fn start(name: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a test");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        );
        let config = Arc::new(config.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let posted = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&posted);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (config, taken) = (Arc::clone(&config), Arc::clone(&taken));
                std::thread::spawn(move || answer(connection.unwrap(), config, &taken));
            }
        });
        Self {
            port,
            authority: authority.pem(),
            posted,
        }
    }

    pub(crate) fn posted(&self) -> Vec<Posted> {
        self.posted.lock().unwrap().clone()
    }
}

/// Answers 204 to each request of a connection. A client that does not trust the certificate sends none.
fn answer(connection: TcpStream, config: Arc<ServerConfig>, taken: &Mutex<Vec<Posted>>) {
    let tls = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(tls, connection));
    while let Some(posted) = request(&mut stream) {
        taken.lock().unwrap().push(posted);
        if stream
            .get_mut()
            .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            .is_err()
        {
            return;
        }
    }
}

/// The next request; none where the connection has ended.
fn request(stream: &mut BufReader<StreamOwned<ServerConnection, TcpStream>>) -> Option<Posted> {
    let mut headers = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => headers.extend(
                line.split_once(": ")
                    .map(|(name, value)| (name.to_lowercase(), value.to_owned())),
            ),
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length?.1.parse().unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some((headers, body))
}
