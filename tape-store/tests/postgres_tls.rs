//! TLS connections to a database that refuses others: which server certificates are trusted, in each of libpq's modes.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod postgres_server;

use postgres_server::{Cluster, Database};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use std::error::Error;
use tape_store::contract::JournalStore as _;
use tape_store::error::StoreError;
use tape_store::postgres::PostgresStore;

/// An authority that signs certificates.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn with_causes(error: &dyn Error) -> String {
    let cause = error.source().map(with_causes);
    cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

struct World {
    database: Database,
    /// The file of the authority that signed the server's certificate, and that of another.
    trusted: tempfile::NamedTempFile,
    other: tempfile::NamedTempFile,
    _cluster: Cluster,
}

impl World {
    /// A server whose certificate is for `localhost`, and not for its address.
    fn new() -> Option<Self> {
        let cluster = Cluster::own()?;
        let database = cluster.database();
        let (authority, other) = (authority("ours"), authority("another"));
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        cluster.speak_tls_only(&certificate.pem(), &key.serialize_pem());
        let file = |pem: String| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&file, pem).unwrap();
            file
        };
        Some(Self {
            database,
            trusted: file(authority.pem()),
            other: file(other.pem()),
            _cluster: cluster,
        })
    }

    /// Opens the store and commits nothing. Returns why that failed, as a text with all causes.
    async fn open(
        &self,
        host: &str,
        mode: &str,
        root: Option<&tempfile::NamedTempFile>,
    ) -> Result<(), String> {
        let url = self.database.url().replace("127.0.0.1", host);
        let root = root.map_or(String::new(), |file| {
            format!("&sslrootcert={}", file.path().display())
        });
        let target = format!("{url}?sslmode={mode}{root}").parse().unwrap();
        let opened = async { Box::pin(PostgresStore::open(&target)).await?.probe().await };
        opened.await.map_err(|error: StoreError| with_causes(&error))
    }
}

#[tokio::test]
async fn each_mode_believes_what_it_says() {
    let Some(world) = World::new() else { return };
    let (trusted, other) = (Some(&world.trusted), Some(&world.other));
    for (host, mode, root) in [
        ("localhost", "verify-full", trusted),
        ("localhost", "verify-ca", trusted),
        ("127.0.0.1", "verify-ca", trusted),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "prefer", None),
    ] {
        let opened = world.open(host, mode, root).await;
        assert_eq!(opened, Ok(()), "{mode} at {host}");
    }
    for (host, mode, root, why) in [
        (
            "127.0.0.1",
            "verify-full",
            trusted,
            "certificate not valid for name",
        ),
        ("localhost", "verify-full", other, "UnknownIssuer"),
        ("localhost", "verify-ca", other, "UnknownIssuer"),
        ("localhost", "verify-full", None, "UnknownIssuer"),
        ("localhost", "disable", None, "no encryption"),
    ] {
        let refused = world.open(host, mode, root).await.unwrap_err();
        assert!(refused.contains(why), "{mode} at {host}: {refused}");
    }
}

#[tokio::test]
async fn a_database_without_tls_is_not_used_where_tls_is_asked_for() {
    let Some(database) = Database::create() else {
        return;
    };
    let target = format!("{}?sslmode=require", database.url()).parse().unwrap();
    let refused = Box::pin(PostgresStore::open(&target)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused:?}");
}
