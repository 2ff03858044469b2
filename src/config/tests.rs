//! Precedence, errors with their place, and the printed forms.

use std::{fs, path::Path, time::Duration};

use super::{layers::value_of, section::SECTIONS, *};
use crate::limits::Limits;

/// Loads a file of this text with these variables and flags; the file is called `roamd.toml`.
fn load(
    text: &str,
    env: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<Effective, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("roamd.toml");
    fs::write(&path, text).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let mut overrides = Overrides::none();
    for (key, flag, value) in flags {
        overrides.set(key, flag, *value);
    }
    Config::load(Some(&path), env, &overrides)
}

/// The error's text from the file's name on.
fn error(text: &str, env: &[(&str, &str)]) -> String {
    let error = load(text, env, &[]).unwrap_err().to_string();
    error.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn nothing_given_is_the_default() {
    let effective = Config::load(None, std::iter::empty(), &Overrides::none()).unwrap();
    assert_eq!(effective.config, Config::default());
    assert_eq!(Limits::from(&effective.config.limits), Limits::default());
    assert_eq!(load("", &[], &[]).unwrap(), effective);
}

#[test]
fn later_layers_win() {
    let text = "[limits]\ninbox_entries = 1\ninbox_age = \"1d\"\ncontent_bytes = \"1KiB\"\n\
                unacked_bytes = 70000\n[log]\nlevel = \"warn\"\n";
    let env = [
        ("ROAMD_LIMITS__INBOX_AGE", "2d"),
        ("ROAMD_LIMITS__INBOX_ENTRIES", "2"),
        ("ROAMD_LIMITS__CONTENT_BYTES", "2048"),
        ("ROAMD_AUTH__HS256_SECRET_FILE", "123"),
        ("PATH", "/bin"),
        ("ROAMD_PORT_7100_TCP", "tcp://10.0.0.1:7100"),
    ];
    let flags = [("limits.inbox_entries", "--x", "3"), ("listen.address", "--listen", "[::1]:0")];
    let effective = load(text, &env, &flags).unwrap();
    let Config { limits, auth, log, listen, .. } = &effective.config;
    assert_eq!(limits.inbox_entries, 3);
    assert_eq!(limits.inbox_age, Duration::from_secs(2 * 86400));
    assert_eq!((limits.content_bytes, limits.unacked_bytes), (2048, 70000));
    assert_eq!(auth.hs256_secret_file.as_deref(), Some(Path::new("123")), "a path, not a number");
    assert_eq!((log.level, log.format), (LogLevel::Warn, LogFormat::Text));
    assert_eq!(listen.address.to_string(), "[::1]:0");

    assert_eq!(*effective.origin("limits.inbox_entries"), Origin::Flag("--x"));
    let origin = effective.origin("limits.inbox_age");
    assert_eq!(*origin, Origin::Env("ROAMD_LIMITS__INBOX_AGE".into()));
    assert!(matches!(effective.origin("log.level"), Origin::File { line: 7, column: 1, .. }));
    assert_eq!(*effective.origin("log.format"), Origin::Default);
}

#[test]
fn errors_name_place_and_nearest_key() {
    let text = "# ä\n[limits]\n  inbox_entires = 5\n";
    assert_eq!(
        error(text, &[]),
        "roamd.toml:3:3: unknown key limits.inbox_entires; did you mean limits.inbox_entries?"
    );
    assert_eq!(
        error("[limit]\ninbox_entries = 5\n", &[]),
        "roamd.toml:1:2: unknown key limit; did you mean limits?"
    );
    assert_eq!(error("qqq = 1", &[]), "roamd.toml:1:1: unknown key qqq");
    assert_eq!(error("listen = 1", &[]), "roamd.toml:1:1: listen: is a section; write [listen]");
    assert_eq!(
        error("data.folder = 'x'", &[]),
        "roamd.toml:1:6: unknown key data.folder; did you mean data.dir?"
    );
    assert!(error("[log]\nlevel = \"info\"\nlevel = \"warn\"\n", &[]).starts_with("roamd.toml:3:"));
    assert!(error("[log\n", &[]).starts_with("roamd.toml:1:"));
    assert_eq!(
        error("", &[("ROAMD_LISTEN__ADRESS", "x")]),
        "env ROAMD_LISTEN__ADRESS: unknown key listen.adress; did you mean listen.address?"
    );
    assert_eq!(
        error("", &[("ROAMD_LISTEN_ADDRESS", "x")]),
        "env ROAMD_LISTEN_ADDRESS: unknown key ROAMD_LISTEN_ADDRESS; \
         did you mean ROAMD_LISTEN__ADDRESS?"
    );
    let missing = Config::load(Some(Path::new("no/such.toml")), [].into_iter(), &Overrides::none());
    assert!(matches!(missing, Err(ConfigError::Read { .. })));
}

#[test]
fn values_of_the_wrong_kind_name_their_key() {
    for (text, key) in [
        ("[limits]\ninbox_age = 7", "limits.inbox_age"),
        ("[limits]\ninbox_age = \"7 weeks\"", "limits.inbox_age"),
        ("[limits]\ninbox_entries = \"many\"", "limits.inbox_entries"),
        ("[limits]\ninbox_entries = -1", "limits.inbox_entries"),
        ("[limits]\nunacked_entries = 5000000000", "limits.unacked_entries"),
        ("[limits]\nunacked_bytes = \"8GiB\"", "limits.unacked_bytes"),
        ("[limits]\ncontent_bytes = \"64KB\"", "limits.content_bytes"),
        ("[listen]\naddress = \"localhost\"", "listen.address"),
        ("[listen]\naddress = \"Off\"", "listen.address"),
        ("[tls]\naddress = \"off\"", "tls.address"),
        ("[log]\nlevel = \"loud\"", "log.level"),
        ("[log]\nformat = [1]", "log.format"),
    ] {
        let error = error(text, &[]);
        assert!(error.starts_with(&format!("roamd.toml:2:1: {key}: ")), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = error("", &[("ROAMD_LIMITS__CONNECTIONS", "lots")]);
    assert!(error.starts_with("env ROAMD_LIMITS__CONNECTIONS: limits.connections: "), "{error}");
}

#[test]
fn rules_name_the_origin_of_the_value() {
    for (name, value) in [
        ("ROAMD_DATA__DIR", ""),
        ("ROAMD_AUTH__HS256_SECRET_FILE", ""),
        ("ROAMD_AUTH__TOKEN_TTL", "0s"),
        ("ROAMD_LIMITS__INBOX_ENTRIES", "0"),
        ("ROAMD_LIMITS__IDEMPOTENCY_WINDOW", "7d"),
        ("ROAMD_LIMITS__CONTENT_BYTES", "121KiB"),
        ("ROAMD_LIMITS__CONTENT_BYTES", "0"),
        ("ROAMD_LIMITS__UNACKED_BYTES", "63KiB"),
        ("ROAMD_LIMITS__FANOUT_MEMBERS", "1"),
        ("ROAMD_LIMITS__HEARTBEAT_INTERVAL", "999ms"),
        ("ROAMD_STORE__MEMORY_BYTES", "63KiB"),
        ("ROAMD_STORE__CHECKPOINT_INTERVAL", "0s"),
        ("ROAMD_LISTEN__ADDRESS", "off"),
        ("ROAMD_TLS__CERT_FILE", ""),
        ("ROAMD_PUSH__URL", "ftp://host/"),
        ("ROAMD_PUSH__URL", "https:///path"),
        ("ROAMD_PUSH__URL", "https://user@host/"),
        ("ROAMD_PUSH__URL", "https://host/a b"),
        ("ROAMD_PUSH__CONNECTIONS", "0"),
        ("ROAMD_PUSH__INCLUDE_CONTENT", "yes"),
        ("ROAMD_PUSH__EXPIRY", "7d"),
        ("ROAMD_PUSH__RETRY_MAX", "999ms"),
    ] {
        let error = error("", &[(name, value)]);
        assert!(error.starts_with(&format!("env {name}: ")), "{error}");
    }
    // The overhead of the largest frame leaves room for the largest content.
    assert!(load("", &[("ROAMD_LIMITS__CONTENT_BYTES", "120KiB")], &[]).is_ok());
    let raised = "[limits]\ncontent_bytes = \"100KiB\"\nunacked_bytes = \"90KiB\"";
    assert_eq!(
        error(raised, &[]),
        "roamd.toml:3:1: limits.unacked_bytes: at least limits.content_bytes, \
         or one message stalls"
    );
}

#[test]
fn show_is_toml_and_names_origins() {
    let env = [("ROAMD_LOG__FORMAT", "json"), ("ROAMD_AUTH__HS256_SECRET_FILE", "a \"b\"")];
    let effective = load("[data]\ndir = 'x'\n", &env, &[("log.level", "--log", "trace")]).unwrap();
    let shown = effective.show();
    for line in [
        "[listen]\naddress = \"127.0.0.1:7100\"  # default\n",
        "level = \"trace\"  # flag --log\n",
        "format = \"json\"  # env ROAMD_LOG__FORMAT\n",
        "inbox_age = \"7d\"  # default\n",
        "roamd.toml:2:1\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    assert_eq!(load(&shown, &[], &[]).unwrap().config, effective.config);
    let unset = load("", &[], &[]).unwrap().show();
    assert!(unset.contains("# hs256_secret_file is not set  # default\n"));
}

#[test]
fn doc_is_the_default_file() {
    let doc = Config::defaults_doc();
    let effective = load(&doc, &[], &[]).unwrap();
    assert_eq!(effective.config, Config::default());
    for section in SECTIONS {
        assert!(doc.contains(&format!("#{}\n[{}]\n", section.about.join("\n#"), section.name)));
        for setting in section.settings {
            let name = format!("{}.{}", section.name, setting.name);
            assert!(!setting.about.is_empty(), "{name} has no documentation");
            let set = value_of(&Config::default(), section.name, setting.name).is_some();
            assert_eq!(*effective.origin(&name) != Origin::Default, set, "{name}");
        }
    }
}

/// The documentation of a limit stands in `limits.rs`, where it is defined, and in the section, where
/// `config doc` finds it. Both must say the same.
#[test]
fn limits_are_documented_alike() {
    let source = include_str!("../limits.rs");
    let fields = source.split_once("pub struct Limits {").unwrap().1.split_once("\n}").unwrap().0;
    let mut about = Vec::new();
    let mut limits = Vec::new();
    for line in fields.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            about.push(text);
        } else if let Some((name, _)) = line.split_once(':') {
            limits.push((name.trim_start_matches("pub ").to_owned(), std::mem::take(&mut about)));
        }
    }
    let section = SECTIONS.iter().find(|section| section.name == "limits").unwrap();
    let settings = section.settings.iter().map(|s| (s.name.to_owned(), s.about.to_vec()));
    assert_eq!(limits, settings.collect::<Vec<_>>());
}

#[test]
fn tls_has_an_address_and_both_files() {
    let tls = ("ROAMD_TLS__ADDRESS", "[::]:7101");
    let off = ("ROAMD_LISTEN__ADDRESS", "off");
    let config = load("", &[tls, off], &[]).unwrap().config;
    assert_eq!(
        (config.listen.address, config.listen.address.address()),
        (ListenAddress::Off, None)
    );
    assert_eq!(config.tls.address.unwrap().port(), 7101);
    assert!(load(&load("", &[tls, off], &[]).unwrap().show(), &[], &[]).unwrap().config == config);
    for (one, other) in [("CERT", "key"), ("KEY", "cert")] {
        let error = error("", &[tls, (&format!("ROAMD_TLS__{one}_FILE"), "x")]);
        assert!(error.starts_with(&format!("default: tls.{other}_file: is needed")), "{error}");
    }
}

#[test]
fn differences_name_what_differs() {
    let plain = load("", &[], &[]).unwrap();
    assert!(plain.differences(&plain).is_empty());
    let other = load("[log]\nlevel = 'warn'\n", &[("ROAMD_TLS__ADDRESS", "[::]:1")], &[]).unwrap();
    assert_eq!(plain.differences(&other), ["tls.address", "log.level"]);
}

#[test]
fn a_hook_needs_a_secret() {
    let url = ("ROAMD_PUSH__URL", "https://host:8443/path?x=1");
    let error = error("", &[url]);
    assert!(error.starts_with("default: push.secret_file: is needed"), "{error}");
    let secret = ("ROAMD_PUSH__SECRET_FILE", "secret");
    let content = ("ROAMD_PUSH__INCLUDE_CONTENT", "true");
    assert!(load("", &[url, secret, content], &[]).unwrap().config.push.include_content);
}
