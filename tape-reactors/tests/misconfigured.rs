//! An invalid configuration is refused before any work. The error names the wrong key and what is allowed there.

#![cfg(all(feature = "cli", feature = "sqlite"))]
#![expect(clippy::unwrap_used, reason = "a test stops where something fails")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The same exit code as for invalid flags.
const MISCONFIGURED: i32 = 2;

fn program(dir: &Path, config: &str) -> Command {
    let file = dir.join("reactors.toml");
    std::fs::write(&file, config).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_tape-reactor"));
    program
        .env_clear()
        .env("SECRET", "s")
        .env("EMPTY", "")
        .arg(format!("--store=sqlite:{}", dir.join("tape.db").display()))
        .arg("--config")
        .arg(file);
    program
}

#[test]
fn what_makes_no_sense_is_refused_at_start() {
    let bank = "[connectors.bank.http]\ndispatch = \"https://bank.example/{operation}\"\n";
    let with = |more: &str| format!("{bank}{more}");
    let agent = |more: &str| format!("[agents.treasury]\nurl = \"https://treasury.example/redrive\"\n{more}");
    for (config, key, allowed) in [
        ("claim_ms = 99".to_owned(), "`claim_ms`", "from 100 to 3600000"),
        (
            "claim_ms = 3600001".to_owned(),
            "`claim_ms`",
            "from 100 to 3600000",
        ),
        ("lease_ms = 0".to_owned(), "`lease_ms`", "from 100 to 3600000"),
        ("timeout_ms = 0".to_owned(), "`timeout_ms`", "from 1 to 604800000"),
        (
            "timeout_ms = 9223372036854775807".to_owned(),
            "`timeout_ms`",
            "from 1 to 604800000",
        ),
        ("sweep_ms = 0".to_owned(), "`sweep_ms`", "from 1 to 604800000"),
        ("concurrency = 0".to_owned(), "`concurrency`", "from 1 to 10000"),
        (
            format!("[connectors.bank]\nconcurrency = 0\n{bank}"),
            "`connectors.bank.concurrency`",
            "from 1 to 10000",
        ),
        (
            "[connectors.bank.http]\ndispatch = \"bank.example\"".to_owned(),
            "`connectors.bank.http.dispatch`",
            "`https://`",
        ),
        (
            with("observe = \"/by/{key}\""),
            "`connectors.bank.http.observe`",
            "`https://`",
        ),
        (
            with("undone = \"https://\""),
            "`connectors.bank.http.undone`",
            "a host",
        ),
        (
            with("absent = { status = 200 }"),
            "`connectors.bank.http.absent`",
            "`headers` or `json`",
        ),
        (
            with("not_undone = { status = 404 }"),
            "`connectors.bank.http.not_undone`",
            "`undone`",
        ),
        (
            with("observe = \"https://bank.example/{busines_key}\""),
            "`connectors.bank.http.observe`",
            "{busines_key}: did you mean {business_key}?",
        ),
        (
            with("found = { status = 200, json = { \"/a\" = 1 } }"),
            "`connectors.bank.http.found`",
            "`observe`",
        ),
        (
            format!("[connectors.bank]\nheaders = {{ x-by = \"{{tenent}}\" }}\n{bank}"),
            "`connectors.bank.headers`",
            "{tenent}: did you mean {tenant}?",
        ),
        (
            format!("[connectors.bank]\nenv = [\"SECRET\"]\n{bank}"),
            "`connectors.bank.env`",
            "`command` only",
        ),
        (
            "[connectors.mail]\ncommand = [\"mail\", \"--key={key}\"]".to_owned(),
            "`connectors.mail.command`",
            "{key}",
        ),
        (
            "[connectors.mail]\ncommand = []".to_owned(),
            "`connectors.mail.command`",
            "is empty",
        ),
        (
            "[agents.treasury]\ncommand = []".to_owned(),
            "`agents.treasury.command`",
            "is empty",
        ),
        (
            "[connectors.mail]\ncommand = [\"no-such-program\"]".to_owned(),
            "`connectors.mail.command`",
            "a program that is not there",
        ),
        (
            "[connectors.mail]\ncommand = [\"/etc/passwd\", \"x\"]".to_owned(),
            "`connectors.mail.command`",
            "an executable file is wanted",
        ),
        (
            "[connectors.mail]\ncommand = [\"true\"]\nenv = [\"{key}\"]".to_owned(),
            "`connectors.mail.env`",
            "letters, digits",
        ),
        (
            "[connectors.mail]\ncommand = [\"true\"]\nenv = [\"EMPTY\"]".to_owned(),
            "`connectors.mail.env[0]`",
            "a variable of the environment that is not set, or empty",
        ),
        (
            agent("secret_env = \"EMPTY\""),
            "`agents.treasury.secret_env`",
            "a variable of the environment that is not set, or empty",
        ),
        (
            "[connectors.mail]\ncommand = [\"true\"]\nheaders = { a = \"b\" }".to_owned(),
            "`connectors.mail.headers`",
            "beside `command`",
        ),
        (
            "[connectors.mail]\ncommand = [\"true\"]\nheaders_env = { a = \"SECRET\" }".to_owned(),
            "`connectors.mail.headers_env`",
            "beside `command`",
        ),
        (
            "[agents.treasury]\nurl = \"treasury.example\"".to_owned(),
            "`agents.treasury.url`",
            "`https://`",
        ),
        (
            agent("timeout_ms = 0"),
            "`agents.treasury.timeout_ms`",
            "from 1 to",
        ),
        (
            agent("kind = \"agent_engine\"\nsecret_env = \"SECRET\""),
            "`agents.treasury.secret_env`",
            "`http` only",
        ),
        (
            agent("method = \"query\""),
            "`agents.treasury.method`",
            "`agent_engine` only",
        ),
        (
            "[agents.treasury]\nconcurrency = 1".to_owned(),
            "`agents.treasury`",
            "either `url` or `command`",
        ),
        (
            agent("command = [\"true\"]"),
            "`agents.treasury`",
            "either `url` or `command`",
        ),
        (
            "[agents.treasury]\ntimeout_ms = 1".to_owned(),
            "`agents.treasury`",
            "either `url` or `command`",
        ),
        (
            "[agents.treasury]\ncommand = [\"no-such-program\"]".to_owned(),
            "`agents.treasury.command`",
            "not there",
        ),
        (
            "[agents.treasury]\ncommand = [\"true\"]\nsecret_env = \"SECRET\"".to_owned(),
            "`agents.treasury.secret_env`",
            "`url` only",
        ),
        (
            agent("env = [\"SECRET\"]"),
            "`agents.treasury.env`",
            "`command` only",
        ),
        (
            agent("[agents.treasury.versions.2]\ncommand = [\"no-such-program\"]"),
            "`agents.treasury.versions.2.command`",
            "not there",
        ),
        (
            agent("[agents.treasury.versions.2]\ntimeout_ms = 1"),
            "`agents.treasury.versions.2`",
            "either `url` or `command`",
        ),
        (
            agent("[agents.treasury.versions.2.versions.3]\nurl = \"http://h/\""),
            "`agents.treasury.versions.2.versions`",
            "within a version",
        ),
    ] {
        refused(&config, key, allowed);
    }
}

/// The program refuses the configuration at start, names the key and what is allowed, and does nothing.
fn refused(config: &str, key: &str, allowed: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut program = program(dir.path(), config);
    program.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = program.spawn().unwrap();
    assert_eq!(first_line(&mut process), "", "{config}");
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(MISCONFIGURED), "{config}: {said}");
    assert!(said.contains(key) && said.contains(allowed), "{config}: {said}");
    assert!(!dir.path().join("tape.db").exists(), "nothing was done");
}

/// A build without the feature says which one it needs.
#[test]
fn what_is_published_nowhere_is_refused_at_start() {
    let queue = "queue = \"projects/p/locations/l/queues/q\"\n";
    let url = "url = \"https://mail.example/send\"\n";
    let tasks = |of: &str, more: &str| format!("{of}[connectors.mail.cloud_tasks]\n{more}");
    let topic = |of: &str, more: &str| format!("{of}[connectors.mail.pubsub]\n{more}");
    let headers = "[connectors.mail]\nheaders = { a = \"b\" }\n";
    let found = "answers = { observe = \"https://h/{key}\", found = { status = 200 } }\n";
    for (has_it, feature, cases) in [
        (
            cfg!(feature = "cloud-tasks"),
            "`cloud-tasks`",
            vec![
                (
                    tasks("", &format!("queue = \"q\"\n{url}")),
                    "cloud_tasks.queue`",
                    "`projects/",
                ),
                (
                    tasks("", &format!("{queue}url = \"mail\"")),
                    "cloud_tasks.url`",
                    "`https://`",
                ),
                (
                    tasks(headers, &format!("{queue}{url}")),
                    "mail.headers`",
                    "asks none",
                ),
                (
                    tasks("", &format!("{queue}{url}{found}")),
                    "cloud_tasks.answers.found`",
                    "`headers` or `json`",
                ),
                (
                    tasks(
                        "[connectors.mail]\nenv = [\"SECRET\"]\n",
                        &format!("{queue}{url}"),
                    ),
                    "mail.env`",
                    "`command` only",
                ),
            ],
        ),
        (
            cfg!(feature = "pubsub"),
            "`pubsub`",
            vec![
                (topic("", "topic = \"t\"\n"), "pubsub.topic`", "`projects/"),
                (
                    topic(headers, "topic = \"projects/p/topics/t\"\n"),
                    "mail.headers`",
                    "asks none",
                ),
                (
                    topic("", &format!("topic = \"projects/p/topics/t\"\n{found}")),
                    "pubsub.answers.found`",
                    "`headers` or `json`",
                ),
            ],
        ),
    ] {
        for (config, key, allowed) in cases {
            match has_it {
                true => refused(&config, key, allowed),
                false => refused(&config, "`connectors.mail.", feature),
            }
        }
    }
    let sweep = format!("[timers.cloud_tasks]\n{queue}{url}sweep_ms = 999\n");
    refused(&sweep, "`timers.cloud_tasks.sweep_ms`", "from 1000 to");
    let both = tasks(
        "",
        &format!("{queue}{url}[connectors.mail.pubsub]\ntopic = \"t\"\n"),
    );
    refused(&both, "connector 'mail'", "one of");
}

/// Tasks that nothing hears are a mistake.
#[test]
fn timers_by_tasks_need_a_queue_and_an_endpoint() {
    let entry =
        "[timers.cloud_tasks]\nqueue = \"projects/p/locations/l/queues/q\"\nurl = \"http://h/wake\"\n";
    for (config, key, says) in [
        ("", "`timers.cloud_tasks`", "is missing"),
        (entry, "`--timers`", "`--wake push`"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut program = program(dir.path(), config);
        let output = program.arg("--timers=cloud-tasks").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(MISCONFIGURED), "{config}: {said}");
        assert!(said.contains(key) && said.contains(says), "{config}: {said}");
    }
}

#[test]
fn a_setting_that_no_agent_would_have_is_refused() {
    let versioned = "[agents.treasury.versions.2]\nurl = \"http://two/redrive\"\n";
    for (key, value) in [
        ("secret_env", "\"SECRET\""),
        ("concurrency", "7"),
        ("timeout_ms", "1000"),
        ("method", "\"nonsense\""),
        ("kind", "\"agent_engine\""),
        ("env", "[\"SECRET\"]"),
    ] {
        let config = format!("[agents.treasury]\n{key} = {value}\n{versioned}");
        refused(&config, &format!("`agents.treasury.{key}`"), "is of no agent");
    }
    // What signs the requests of one agent signs none of another.
    let signed = "[agents.treasury]\nurl = \"http://one/redrive\"\nsecret_env = \"SECRET\"\n";
    let of = "`agents.treasury.versions.2.secret_env`";
    refused(&format!("{signed}{versioned}"), of, "is not there");
}

#[test]
fn an_agent_has_as_many_places_as_a_connector_may_have() {
    for of in ["agents.treasury", "agents.treasury.versions.2"] {
        for places in ["0", "10001", "9223372036854775807"] {
            let config = format!("[{of}]\nurl = \"http://h/redrive\"\nconcurrency = {places}\n");
            refused(&config, &format!("`{of}.concurrency`"), "from 1 to 10000");
        }
    }
}

#[test]
fn an_error_has_no_secret_of_the_file_in_it() {
    for config in [
        "[connectors.bank]\nheaders = { authorization = \"Bearer S3CRET\", x = }\n",
        "[connectors.bank]\nheaders = \"S3CRET\"\n",
        "[connectors.bank]\nheaders = { x-api-key = 4711 }\n",
        "[connectors.bank]\nheaders = { x-api-key = 4711.5 }\n",
        "[connectors.bank]\nheaders = { x-api-key = 4711-01-01 }\n",
        "[connectors.bank]\nheaders = { x-api-key = S3CRET }\n",
        "[connectors.bank]\nheaders = { x-api-key = 'S3CRET }\n",
        "[connectors.bank]\nconcurrency = \", expected S3CRET\"\n",
        "[connectors.bank]\nheaders_env = { authorization = \"Bearer S3CRET\" }\nhttp = { dispatch = \"http://h/\" }\n",
        "[connectors.bank]\nheaders_env = { authorization = \"S3CRET\" }\nhttp = { dispatch = \"http://h/\" }\n",
        "[connectors.mail]\ncommand = [\"true\"]\nenv = [\"S3CRET\"]\n",
        "[connectors.mail]\ncommand = [\"true\"]\nenv = [\"=S3CRET\"]\n",
        "[agents.treasury]\nurl = \"http://h/\"\nsecret_env = \"S3CRET\"\n",
        "[agents.treasury]\nurl = \"http://h/\"\nsecret_env = \"=S3CRET\"\n",
        "[agents.treasury]\nurl = \"http://h/\"\nkind = \"S3CRET\"\n",
        "[connectors.bank]\nheaders = { a = \"S3CRET \\\" S3CRET {\" }\nhttp = { dispatch = \"http://h/\" }\n",
        "[connectors.bank]\nconcurrency = \"S3CRET \\\" S3CRET\"\n",
        "[connectors.bank.http]\ndispatch = \"http://u:S3CRET@h/{kye}?token=S3CRET\"\n",
        "[connectors.bank.http]\ndispatch = \"u:S3CRET@h\"\n",
        "[agents.treasury]\nurl = \"u:S3CRET@h\"\n",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = program(dir.path(), config).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(MISCONFIGURED), "{config}: {said}");
        assert!(!said.contains("S3CRET") && !said.contains("4711"), "{said}");
        let named = ["line ", "`connectors.", "`agents."]
            .iter()
            .any(|word| said.contains(word));
        assert!(named, "{said}");
    }
}

#[test]
fn a_value_of_another_kind_is_told_by_its_key_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = "claim_ms = 1000\n[connectors.bank]\nheaders = { a = \"b\", x-api-key = 4711 }\n";
    let output = program(dir.path(), config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("line 3: `x-api-key` has another value than a string"),
        "{said}"
    );
}

#[test]
fn what_the_server_and_the_client_refuse_is_refused() {
    for (flags, says) in [
        (["--store=tape://h:1", "--log=tape_reactors=debgu"], "log filter"),
        (["--store=memory:", "--log=off"], "one process alone"),
        (["--store=tape://db", "--log=off"], "tape://HOST:PORT"),
        (["--store=tape://h:1/x", "--log=off"], "tape://HOST:PORT"),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tape-reactor"));
        let mut process = program
            .env_clear()
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(first_line(&mut process), "", "{flags:?}");
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(MISCONFIGURED), "{flags:?}: {said}");
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn where_to_listen_is_said_by_a_flag_or_else_a_variable_or_else_the_platform() {
    let here = "127.0.0.1:0";
    for (flags, variables, says) in [
        (
            &["--listen", here][..],
            &[("PORT", "1")][..],
            "tape-reactor ready on 127.0.0.1:",
        ),
        (
            &["--listen", here],
            &[("TAPE_LISTEN", "[::1]:1"), ("PORT", "1")],
            "tape-reactor ready on 127.0.0.1:",
        ),
        (
            &[],
            &[("TAPE_LISTEN", here), ("PORT", "1")],
            "tape-reactor ready on 127.0.0.1:",
        ),
        (&[], &[("PORT", "0")], "tape-reactor ready on 0.0.0.0:"),
        (
            &["--port", "0"],
            &[("TAPE_LISTEN", "[::1]:1")],
            "tape-reactor ready on 0.0.0.0:",
        ),
        (
            &[],
            &[
                ("TAPE_LISTEN", ""),
                ("PORT", ""),
                ("TAPE_LOG", ""),
                ("TAPE_DRAIN_MS", ""),
            ],
            "tape-reactor ready\n",
        ),
        (
            &[],
            &[("TAPE_LISTEN", ""), ("PORT", "0")],
            "tape-reactor ready on 0.0.0.0:",
        ),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tape-reactor"));
        let mut process = program
            .env_clear()
            .arg("--store=tape://127.0.0.1:1")
            .args(flags)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let line = first_line(&mut process);
        assert!(line.starts_with(says), "{flags:?} {variables:?}: {line}");
    }
}

/// A file is no terminal.
#[test]
fn no_colours_stand_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("log");
    let mut program = Command::new(env!("CARGO_BIN_EXE_tape-reactor"));
    let mut process = program
        .env_clear()
        .args(["--store=tape://127.0.0.1:1", "--log=debug"])
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&process);
    let mut line = String::new();
    let mut said = BufReader::new(process.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success());
    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.contains("stopping") && !log.contains('\u{1b}'), "{log:?}");
}

#[test]
fn what_makes_sense_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let config = "claim_ms = 100\nlease_ms = 3600000\ntimeout_ms = 1\nconcurrency = 1\n\
         [connectors.bank]\nheaders = { a = \"b\", by = \"{tenant} {{}}\" }\nheaders_env = { c = \"SECRET\" }\n\
         [connectors.bank.http]\ndispatch = \"http://{tenant}.example:8443/{operation}\"\n\
         observe = \"http://[::1]/by/{business_key}\"\nabsent = { status = 200, json = { \"\" = [] } }\n\
         undone = \"https://bank.example/{key}\"\nnot_undone = { status = 404 }\n\
         not_done = [{ status = 429 }, { status = 503, headers = { x-by = \"bank\" } }]\n\
         [connectors.mail]\ncommand = [\"true\", \"${KEY} {\"]\nenv = [\"SECRET\"]\n\
         [agents.treasury]\nurl = \"http://treasury/redrive\"\nsecret_env = \"SECRET\"\n\
         [agents.research]\nkind = \"agent_engine\"\nurl = \"https://engine.example/v1\"\nmethod = \"query\"\n\
         [agents.local]\ncommand = [\"true\", \"--once\"]\nenv = [\"SECRET\"]\n\
         [agents.local.versions.\"2026-11-29\"]\ncommand = [\"true\"]\n\
         [agents.treasury.versions.1]\nurl = \"http://one/redrive\"\nsecret_env = \"SECRET\"\nconcurrency = 10000\n\
         [agents.treasury.versions.2]\ncommand = [\"true\"]\ntimeout_ms = 1\n\
         [agents.versioned.versions.2]\nurl = \"http://two/redrive\"\n";
    let mut program = program(dir.path(), config);
    make_journal(&dir.path().join("tape.db"));
    let mut process = program
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(first_line(&mut process), "tape-reactor ready\n");
}

/// The first line of the program. A program with a line is up and would stay, so it is killed.
fn first_line(process: &mut Child) -> String {
    let mut line = String::new();
    let mut said = BufReader::new(process.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    if !line.is_empty() {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    line
}

fn make_journal(path: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let opened = tape_store::sqlite::SqliteStore::open(path);
    runtime.unwrap().block_on(opened).unwrap();
}

/// A misspelt path would be an empty journal, and the program would report itself ready.
#[test]
fn a_journal_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, empty) = (dir.path().join("typo.db"), dir.path().join("empty.db"));
    std::fs::write(&empty, "").unwrap();
    for (path, says) in [
        (&missing, "tape-server makes it"),
        (&empty, "there is no journal in it"),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_tape-reactor"));
        let store = format!("--store=sqlite:{}", path.display());
        let mut process = program
            .env_clear()
            .args([&store, "--log=off"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert_eq!(first_line(&mut process), "", "it is not ready");
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(MISCONFIGURED), "{said}");
        assert!(
            said.contains(&path.display().to_string()) && said.contains(says),
            "{said}"
        );
    }
    assert!(!missing.exists() && std::fs::read(&empty).unwrap().is_empty());
}

#[test]
fn flags_about_waking_that_make_no_sense_are_refused_at_start() {
    const PUSH: [&str; 3] = ["--wake=push", "--listen=127.0.0.1:0", "--push-audience=a"];
    const ACCOUNT: &str = "--push-account=a@b";
    let push = |more: &[&'static str]| [&PUSH, more].concat();
    for (flags, key, problem) in [
        (vec!["--wake=pubsub"], "`--subscription`", "is missing"),
        (
            vec!["--wake=push", ACCOUNT, "--push-audience=a"],
            "`--wake`",
            "needs a port",
        ),
        (push(&[]), "`--push-account`", "is missing"),
        (
            vec!["--wake=push", "--listen=127.0.0.1:0", ACCOUNT],
            "`--push-audience`",
            "is missing",
        ),
        (
            push(&[ACCOUNT, "--jwks-url=http://issuer.example/keys"]),
            "`--jwks-url`",
            "`https://`",
        ),
        (
            push(&[ACCOUNT, "--push-issuer=https://issuer.example"]),
            "--jwks-url",
            "required",
        ),
        (
            push(&[ACCOUNT, "--subscription=projects/p/subscriptions/s"]),
            "`--subscription`",
            "beside `--wake pubsub` only",
        ),
        (
            vec!["--push-audience=a"],
            "`--push-audience`",
            "beside `--wake push` only",
        ),
        (vec!["--sweep=never"], "--sweep", "`off`"),
        (vec!["--sweep=0"], "--sweep", "`off`"),
        (vec!["--wake=sometimes"], "--wake", "pubsub"),
        #[cfg(feature = "pubsub")]
        (
            vec!["--wake=pubsub", "--subscription=s"],
            "`--wake pubsub`",
            "projects/PROJECT/subscriptions/NAME",
        ),
        #[cfg(not(feature = "pubsub"))]
        (
            vec!["--wake=pubsub", "--subscription=s"],
            "`--wake`",
            "--features pubsub",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = program(dir.path(), "").args(&flags).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(MISCONFIGURED), "{flags:?}: {said}");
        assert!(said.contains(key) && said.contains(problem), "{flags:?}: {said}");
        assert!(!dir.path().join("tape.db").exists(), "no journal was opened");
    }
}
