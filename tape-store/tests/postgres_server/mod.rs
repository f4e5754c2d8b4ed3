//! A real PostgreSQL for tests, started by the tests themselves.
//!
//! All test processes that run at about the same time share one server; the first process starts it. Each process holds a lock that ends
//! with it, however it ends. A watchdog stops the server and removes its files once no process has held the lock for some seconds. Each
//! test has a database of its own.

#![allow(dead_code, reason = "each test file needs some of it")]

use std::fs::{File, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use tape_environment::{Environment as _, Machine};

/// Settings of the test's server: everything durable as in production.
const SETTINGS: &str =
    "fsync=on synchronous_commit=on max_connections=300 max_wal_size=4GB max_prepared_transactions=10";

/// The user that the server runs as where the tests run as root.
const NOBODY: u32 = 65_534;

/// The database that others are copied from.
const TEMPLATE: &str = "tape_template";

/// Stops a shared server once no process has used it for some seconds.
const WATCHDOG: &str = r#"
exec 9>>users
while [ -e last ]; do
  flock -x 9; before=$(cat last); flock -u 9
  sleep 8
  if flock -n -x 9; then
    if [ "$before" = "$(cat last)" ]; then
      server=$(head -n 1 data/postmaster.pid)
      kill -QUIT "$server"
      while kill -0 "$server" 2>/dev/null; do sleep 0.1; done
      rm -rf data port small
      exit
    fi
    flock -u 9
  fi
done
"#;

/// A separate database on the shared server. It is removed with the server: dropping it alone costs a checkpoint.
pub(crate) struct Database {
    port: u16,
    name: String,
}

impl Database {
    /// Makes a database with an empty journal; none where PostgreSQL is not installed, which is reported.
    pub(crate) fn create() -> Option<Self> {
        is_installed().then(|| Self::on(shared().port, TEMPLATE))
    }

    /// Makes a database with nothing in it; none where PostgreSQL is not installed, which is reported.
    pub(crate) fn bare() -> Option<Self> {
        is_installed().then(|| Self::on(shared().port, "template1"))
    }

    fn on(port: u16, template: &str) -> Self {
        let name = format!("t_{}", Machine.uuid().simple());
        psql(
            port,
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE {template}"),
        );
        Self { port, name }
    }

    pub(crate) fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same database at another port, where something is in between.
    pub(crate) fn url_at(&self, port: u16) -> String {
        format!("postgres://tape@127.0.0.1:{port}/{}", self.name)
    }

    /// The same in another database, for statements about the database as a whole.
    fn psql_server(&self, statement: &str) -> String {
        psql(self.port, "postgres", statement)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Lets the database be written to, or not.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        self.psql_server(&format!(
            "ALTER DATABASE {} SET default_transaction_read_only = {read_only}",
            self.name
        ));
        // It holds for new sessions.
        self.psql_server(&format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        ));
    }

    /// What `psql` prints for a statement: rows as lines, columns with `|` between them.
    pub(crate) fn psql(&self, statement: &str) -> String {
        psql(self.port, &self.name, statement)
    }
}

struct Server {
    port: u16,
    /// Locked as long as the process lives.
    _user: File,
}

/// A server for one test only, so that the test may break it. It stops when this is dropped.
pub(crate) struct Cluster {
    server: Server,
    directory: PathBuf,
}

/// How large the small disk is: little more than an empty database.
const SMALL_DISK: &str = "64m";

impl Cluster {
    /// Starts a server; none where PostgreSQL is not installed, which is reported.
    pub(crate) fn own() -> Option<Self> {
        is_installed().then(|| Self::start(Disk::Plain))
    }

    /// Starts a server that has a small disk beside its own; none where PostgreSQL is not installed or nothing can be mounted, which is
    /// reported.
    pub(crate) fn with_small_disk() -> Option<Self> {
        is_installed().then_some(())?;
        let mount = Command::new("unshare")
            .args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
            .output();
        if mount.is_ok_and(|mount| mount.status.success()) {
            return Some(Self::start(Disk::Small));
        }
        eprintln!("NOT TESTED: a disk can only be mounted by root");
        None
    }

    fn start(disk: Disk) -> Self {
        let name = format!("tape-test-postgres-{}", Machine.uuid().simple());
        let directory = std::env::temp_dir().join(name);
        Self {
            server: attach(&directory, disk),
            directory,
        }
    }

    /// A database with an empty journal.
    pub(crate) fn database(&self) -> Database {
        Database::on(self.server.port, TEMPLATE)
    }

    /// The same on the small disk.
    pub(crate) fn database_on_small_disk(&self) -> Database {
        let location = small_disk(&self.directory.join("data"));
        psql(
            self.server.port,
            "postgres",
            &format!("CREATE TABLESPACE small LOCATION '{}'", location.display()),
        );
        Database::on(self.server.port, &format!("{TEMPLATE} TABLESPACE small"))
    }

    /// From now on the server shows this certificate, and refuses connections without TLS.
    pub(crate) fn speak_tls_only(&self, certificate: &str, key: &str) {
        let data = self.directory.join("data");
        for (name, contents) in [
            ("server.crt", certificate),
            ("server.key", key),
            ("pg_hba.conf", "hostssl all all all trust\n"),
        ] {
            let path = data.join(name);
            std::fs::write(&path, contents).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            give_to_postgres(&path);
        }
        psql(self.server.port, "postgres", "ALTER SYSTEM SET ssl = on");
        self.crash();
    }

    /// Starts a standby that follows the server. It has to be dropped before the server.
    pub(crate) fn standby(&self) -> Standby {
        let data = self.directory.join("standby");
        make_directory(&data);
        std::fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
        let mut copy = as_postgres(&program("pg_basebackup"), &data);
        copy.args([
            "-h",
            "127.0.0.1",
            "-U",
            "tape",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        ]);
        copy.args(["-p", &self.server.port.to_string(), "-D"]);
        run(copy.arg(&data));
        Standby {
            port: start_on_a_free_port(&data, Disk::Plain),
            data,
        }
    }

    /// Stops the server at once, whatever it does.
    pub(crate) fn stop(&self) {
        self.control(&["stop", "-m", "immediate"]);
    }

    /// Starts it again; it recovers from its log first.
    pub(crate) fn resume(&self) {
        self.control(&["start", "-o", &options(self.server.port), "-l", "log"]);
    }

    /// Stops the server at once, whatever it does, and starts it again.
    pub(crate) fn crash(&self) {
        self.control(&["restart", "-m", "immediate", "-l", "log"]);
    }

    fn control(&self, args: &[&str]) {
        let data = self.directory.join("data");
        let mut pg_ctl = as_postgres(&program("pg_ctl"), &data);
        pg_ctl.arg("-D").arg(&data).arg("-w").args(args);
        assert!(quietly(&mut pg_ctl), "pg_ctl {args:?} in {}", data.display());
    }
}

/// A server that follows another one, until it takes over from it.
pub(crate) struct Standby {
    port: u16,
    data: PathBuf,
}

impl Standby {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Applies no more changes of the primary.
    pub(crate) fn fall_behind(&self) {
        psql(self.port, "postgres", "SELECT pg_wal_replay_pause()");
    }

    /// Receives no more changes of the primary.
    pub(crate) fn lose_touch(&self) {
        psql(
            self.port,
            "postgres",
            "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'",
        );
        psql(self.port, "postgres", "SELECT pg_reload_conf()");
        while psql(
            self.port,
            "postgres",
            "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'",
        ) != "0"
        {}
    }

    /// The answer to a query.
    pub(crate) fn says(&self, database: &str, query: &str) -> String {
        psql(self.port, database, query)
    }

    /// Takes over.
    pub(crate) fn promote(&self) {
        psql(self.port, "postgres", "SELECT pg_wal_replay_resume()");
        psql(self.port, "postgres", "SELECT pg_promote()");
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let mut stop = as_postgres(&program("pg_ctl"), &self.data);
        quietly(stop.args(["stop", "-m", "immediate", "-w", "-D", "."]));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.directory.join("data");
        // It may be stopped already.
        quietly(as_postgres(&program("pg_ctl"), &data).args(["stop", "-m", "immediate", "-w", "-D", "."]));
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What a server writes to beside its own directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    Plain,
    Small,
}

fn small_disk(data: &Path) -> PathBuf {
    data.with_file_name("small")
}

fn shared() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| attach(&directory(), Disk::Plain))
}

/// Where the shared server of this source tree has its files: the path of a socket must be short.
fn directory() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
    std::env::temp_dir().join(format!("tape-test-postgres-{:x}", hasher.finish()))
}

fn attach(directory: &Path, disk: Disk) -> Server {
    std::fs::create_dir_all(directory).unwrap();
    let starting = File::create(directory.join("starting")).unwrap();
    starting.lock().unwrap();
    let user = File::options()
        .append(true)
        .create(true)
        .open(directory.join("users"))
        .unwrap();
    user.lock_shared().unwrap();
    std::fs::write(directory.join("last"), Machine.uuid().to_string()).unwrap();
    let port = running(directory).unwrap_or_else(|| start(directory, disk));
    Server { port, _user: user }
}

fn running(directory: &Path) -> Option<u16> {
    let port = std::fs::read_to_string(directory.join("port"))
        .ok()?
        .parse()
        .ok()?;
    let asked = psql_command(port, "postgres", "SELECT 1").output().ok()?;
    asked.status.success().then_some(port)
}

#[expect(
    clippy::zombie_processes,
    reason = "the watchdog outlives the process that starts it"
)]
fn start(directory: &Path, disk: Disk) -> u16 {
    let data = directory.join("data");
    // What a crash of the machine left behind.
    let _ = std::fs::remove_dir_all(&data);
    let port = init_and_start(&data, disk);
    make_template(port);
    std::fs::write(directory.join("port"), port.to_string()).unwrap();
    let mut watchdog = Command::new("sh");
    watchdog
        .args(["-c", WATCHDOG])
        .current_dir(directory)
        .process_group(0);
    watchdog
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    watchdog.spawn().unwrap();
    port
}

/// A database with an empty journal, which is faster to copy than to make.
fn make_template(port: u16) {
    psql(port, "postgres", &format!("CREATE DATABASE {TEMPLATE}"));
    let target = format!("postgres://tape@127.0.0.1:{port}/{TEMPLATE}")
        .parse()
        .unwrap();
    // The test that came first may be within a runtime already.
    let made = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime
            .block_on(tape_store::postgres::migrate(&target, false))
            .unwrap();
    });
    made.join().unwrap();
}

/// Makes a cluster in a directory and starts it on a free port.
fn init_and_start(data: &Path, disk: Disk) -> u16 {
    make_directory(data);
    let mut initdb = as_postgres(&program("initdb"), data);
    initdb.args([
        "--auth=trust",
        "--username=tape",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
        "-D",
    ]);
    run(initdb.arg(data));
    if disk == Disk::Small {
        make_directory(&small_disk(data));
    }
    start_on_a_free_port(data, disk)
}

/// Starts the cluster in a directory on a free port.
fn start_on_a_free_port(data: &Path, disk: Disk) -> u16 {
    for attempt in 0.. {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut pg_ctl = starter(data, disk);
        pg_ctl.args(["start", "-w", "-l", "log", "-D"]).arg(data);
        if quietly(pg_ctl.args(["-o", &options(port)])) {
            return port;
        }
        // Another process may have taken the port.
        assert!(
            attempt < 5,
            "PostgreSQL does not start: {}",
            std::fs::read_to_string(data.join("log")).unwrap_or_default()
        );
    }
    unreachable!("the loop returns or fails")
}

fn make_directory(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    give_to_postgres(directory);
}

fn options(port: u16) -> String {
    let settings = SETTINGS.split(' ').map(|setting| format!("-c {setting} "));
    let settings = settings.collect::<String>();
    format!("{settings} -c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''")
}

/// The command that starts a server: where it has a small disk, in a mount namespace that ends with it.
fn starter(data: &Path, disk: Disk) -> Command {
    const MOUNT: &str = "mount -t tmpfs -o size=$1,uid=$3,gid=$3,mode=700 tmpfs \"$2\" && shift 2 && exec setpriv --reuid $1 --regid $1 --clear-groups \"${@:2}\"";
    let pg_ctl = program("pg_ctl");
    if disk == Disk::Plain {
        return as_postgres(&pg_ctl, data);
    }
    let mut command = Command::new("unshare");
    command.args(["-m", "bash", "-c", MOUNT, "bash", SMALL_DISK]);
    command.arg(small_disk(data)).arg(NOBODY.to_string()).arg(pg_ctl);
    command.current_dir(data);
    command
}

/// Whether a command succeeds that leaves a process behind, which must not keep the output open.
fn quietly(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().unwrap().success()
}

/// Whether there is a PostgreSQL to test with. CI must have one.
pub(crate) fn is_installed() -> bool {
    let missing = ["initdb", "pg_ctl", "psql"]
        .into_iter()
        .find(|name| find(name).is_none());
    let Some(missing) = missing else { return true };
    let said = format!(
        "{missing} is not installed; it comes with PostgreSQL 15 or later (apt-get install postgresql)"
    );
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
    eprintln!("NOT TESTED: {said}");
    false
}

fn program(name: &str) -> PathBuf {
    find(name).expect("it is looked for before a server is wanted")
}

/// A program of PostgreSQL, from the path or from where distributions put it.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        directories.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    directories
        .into_iter()
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// PostgreSQL refuses to run as root: then it runs as the owner of its directory.
fn as_postgres(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    let (own, owner) = (
        std::fs::metadata("/proc/self").unwrap().uid(),
        std::fs::metadata(data).unwrap(),
    );
    if own == 0 {
        command.uid(owner.uid()).gid(owner.gid());
    }
    command.current_dir(data);
    command
}

fn give_to_postgres(data: &Path) {
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        std::os::unix::fs::chown(data, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn psql_command(port: u16, database: &str, statement: &str) -> Command {
    let mut command = Command::new(program("psql"));
    command.args([
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-U",
        "tape",
    ]);
    command.args(["-p", &port.to_string(), "-d", database, "-c", statement]);
    command
}

fn psql(port: u16, database: &str, statement: &str) -> String {
    let output = run(&mut psql_command(port, database, statement));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{command:?}: {said}{complained}");
    output
}
