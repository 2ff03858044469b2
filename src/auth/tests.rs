//! Forged, damaged and stale tokens; keys on disk.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use ed25519_dalek::{SigningKey, pkcs8::DecodePrivateKey};
use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{key::generate, *};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_500);
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const HOUR: Duration = Duration::from_secs(3600);

fn alice() -> UserId {
    UserId::new("alice").unwrap()
}

fn pem() -> String {
    generate().unwrap().1.to_string()
}

fn key(kid: &str) -> Key {
    Key::ed25519(kid, &pem()).unwrap()
}

fn mint(ring: &KeyRing) -> String {
    ring.mint(&alice(), None, Scopes::of(&[Scope::Client]), HOUR, NOW).unwrap()
}

/// A token signed with the secret, with this header and these claims.
fn signed(header: &Header, claims: &Value) -> String {
    encode(header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn check_claims(claims: Value) -> Result<Claims, AuthError> {
    let ring = KeyRing::new([Key::hs256(SECRET).unwrap()]).unwrap();
    ring.verify(&signed(&Header::default(), &claims), NOW)
}

fn exp() -> u64 {
    NOW.plus(HOUR).millis() / 1000
}

#[test]
fn says_what_was_minted() {
    let device = DeviceId::new("phone").unwrap();
    let scopes = Scopes::of(&[Scope::Client, Scope::Push]);
    for key in [key("k"), Key::hs256(SECRET).unwrap()] {
        let ring = KeyRing::new([key]).unwrap();
        let token = ring.mint(&alice(), Some(&device), scopes, HOUR, NOW).unwrap();
        let claims = ring.verify(&token, NOW).unwrap();
        assert_eq!(claims.user, alice());
        // Whether the device is the one that says Hello is for the caller to compare.
        assert_eq!(claims.device.as_ref(), Some(&device));
        assert_eq!(claims.scopes, scopes);
        assert_eq!(claims.issued, Timestamp::from_millis(1_700_000_000_000));
        assert_eq!(claims.expires, Timestamp::from_millis(1_700_003_601_000));
    }
}

#[test]
fn expires_to_the_millisecond() {
    let ring = KeyRing::new([key("k")]).unwrap();
    let token = mint(&ring);
    let end = ring.verify(&token, NOW).unwrap().expires;
    assert!(ring.verify(&token, end.minus(Duration::from_millis(1))).is_ok());
    assert_eq!(ring.verify(&token, end), Err(AuthError::Expired));
    let forged = format!("{}x", token.trim_end_matches(|c| c != '.'));
    assert_eq!(ring.verify(&forged, end), Err(AuthError::Invalid), "expired is for genuine ones");
}

#[test]
fn a_token_that_was_shown_before_ends_with_its_key() {
    let (stays, goes) = (pem(), pem());
    let first = || Key::ed25519("a", &stays).unwrap();
    let ring = KeyRing::new([first(), Key::ed25519("b", &goes).unwrap()]).unwrap();
    let token = mint(&ring);
    let claims = ring.verify(&token, NOW);
    assert_eq!(ring.clone().verify(&token, NOW), claims);
    for later in [vec![first()], vec![first(), key("b")], vec![key("a"), key("b")]] {
        let later = KeyRing::new(later).unwrap();
        assert_eq!(later.verify(&token, NOW), Err(AuthError::Invalid));
        assert_eq!(later.verify(&token, NOW), Err(AuthError::Invalid));
    }
    assert_eq!(ring.verify(&token, NOW), claims);
}

#[test]
fn every_changed_byte_is_noticed() {
    let ring = KeyRing::new([key("k"), Key::hs256(SECRET).unwrap()]).unwrap();
    let token = mint(&ring);
    // Also when the token itself was shown before.
    assert_eq!(ring.verify(&token, NOW), ring.verify(&token, NOW));
    assert!(ring.verify(&token, NOW).is_ok());
    for at in 0..token.len() {
        for by in ["", "A", "B", ".", "é"] {
            let changed = [&token[..at], by, &token[at + 1..]].concat();
            if changed != token {
                assert_eq!(ring.verify(&changed, NOW), Err(AuthError::Invalid), "byte {at}: {by}");
            }
        }
        assert_eq!(ring.verify(&token[..at], NOW), Err(AuthError::Invalid));
    }
}

#[test]
fn algorithm_belongs_to_the_key() {
    let pem = pem();
    let public = SigningKey::from_pkcs8_pem(&pem).unwrap().verifying_key();
    let ring = || [Key::ed25519("k", &pem).unwrap(), Key::hs256(SECRET).unwrap()];
    let ring = KeyRing::new(ring()).unwrap();
    let claims = json!({"sub": "alice", "exp": exp()});
    let forge = |alg, kid: Option<&str>, secret: &[u8]| {
        let mut header = Header::new(alg);
        header.kid = kid.map(str::to_owned);
        encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    use jsonwebtoken::Algorithm::{HS256, HS384, HS512};

    assert!(ring.verify(&forge(HS256, None, SECRET), NOW).is_ok(), "the secret needs no kid");
    assert!(ring.verify(&forge(HS256, Some("hs256"), SECRET), NOW).is_ok());
    for (alg, kid, secret) in [
        (HS256, Some("k"), public.as_bytes().as_slice()),
        (HS256, None, public.as_bytes()),
        (HS256, Some("k"), pem.as_bytes()),
        (HS256, Some("k"), SECRET),
        (HS256, Some("k"), b""),
        (HS384, None, SECRET),
        (HS512, Some("hs256"), SECRET),
        (HS256, Some("unknown"), SECRET),
        (HS256, Some("../k"), SECRET),
        (HS256, Some(""), SECRET),
    ] {
        assert_eq!(ring.verify(&forge(alg, kid, secret), NOW), Err(AuthError::Invalid), "{kid:?}");
    }

    // A genuine Ed25519 signature under the name of the secret, or under none.
    let own = Key::ed25519("k", &pem).unwrap();
    for kid in [Some("hs256".to_owned()), None] {
        let mut header = Header::new(jsonwebtoken::Algorithm::EdDSA);
        header.kid = kid;
        let token = encode(&header, &claims, &own.signs).unwrap();
        assert_eq!(ring.verify(&token, NOW), Err(AuthError::Invalid));
    }
}

#[test]
fn unsigned_is_refused() {
    let ring = KeyRing::new([Key::hs256(SECRET).unwrap()]).unwrap();
    let token = mint(&ring);
    let content = token.split('.').nth(1).unwrap();
    // {"alg":"none"}, {"alg":"None","kid":"hs256"}, {"alg":""}
    for header in
        ["eyJhbGciOiJub25lIn0", "eyJhbGciOiJOb25lIiwia2lkIjoiaHMyNTYifQ", "eyJhbGciOiIifQ"]
    {
        for signature in ["", token.rsplit('.').next().unwrap()] {
            let forged = format!("{header}.{content}.{signature}");
            assert_eq!(ring.verify(&forged, NOW), Err(AuthError::Invalid));
        }
    }
    let header = Header { crit: Some(vec!["b64".to_owned()]), ..Header::default() };
    let critical = signed(&header, &json!({"sub": "alice", "exp": exp()}));
    assert_eq!(ring.verify(&critical, NOW), Err(AuthError::Invalid));
}

#[test]
fn claims_keep_the_rules() {
    let good = check_claims(json!({"sub": "alice", "exp": exp()})).unwrap();
    assert_eq!((good.scopes, good.device), (Scopes::NONE, None));
    assert_eq!(good.issued, Timestamp::default());
    let good = check_claims(json!({"sub": "a", "exp": exp() as f64 + 0.25, "scope": "root push"}));
    let good = good.unwrap();
    assert_eq!(good.expires.millis(), exp() * 1000 + 250);
    assert_eq!(good.scopes, Scopes::of(&[Scope::Push]));
    assert!(check_claims(json!({"sub": "a", "exp": exp(), "nbf": 1_700_000_000})).is_ok());

    let long = "x".repeat(65);
    for bad in [
        json!({"exp": exp()}),
        json!({"sub": null, "exp": exp()}),
        json!({"sub": 7, "exp": exp()}),
        json!({"sub": "", "exp": exp()}),
        json!({"sub": "a b", "exp": exp()}),
        json!({"sub": long, "exp": exp()}),
        json!({"sub": "a"}),
        json!({"sub": "a", "exp": "soon"}),
        json!({"sub": "a", "exp": -1}),
        json!({"sub": "a", "exp": exp(), "device": ""}),
        json!({"sub": "a", "exp": exp(), "device": "a\nb"}),
        json!({"sub": "a", "exp": exp(), "nbf": 1_700_000_001}),
        json!({"sub": "a", "exp": exp(), "aud": "another service"}),
        json!(["alice", exp()]),
    ] {
        assert_eq!(check_claims(bad.clone()), Err(AuthError::Invalid), "{bad}");
    }
    let padded = json!({"sub": "a", "exp": exp(), "x": "x".repeat(TOKEN_BYTES_MAX)});
    assert_eq!(check_claims(padded), Err(AuthError::Invalid));
}

#[test]
fn newest_signs_and_older_stay_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let first = KeyRing::open(folder.path(), None, NOW).unwrap();
    let old = mint(&first);
    // A clock that went back does not make the new key the older one.
    let kid = KeyRing::rotate(folder.path(), Timestamp::default()).unwrap();
    let both = KeyRing::open(folder.path(), None, NOW).unwrap();
    assert_eq!(both.kids().count(), 2);
    assert_eq!(both.signing().unwrap().kid(), kid);
    let new = mint(&both);
    assert!(both.verify(&old, NOW).is_ok() && both.verify(&new, NOW).is_ok());
    assert_eq!(first.verify(&new, NOW), Err(AuthError::Invalid), "unknown kid");

    fs::remove_file(
        folder.path().join(KEY_FOLDER).join(format!("{}.pem", first.signing().unwrap().kid())),
    )
    .unwrap();
    let rest = KeyRing::open(folder.path(), None, NOW).unwrap();
    assert_eq!(rest.verify(&old, NOW), Err(AuthError::Invalid), "retired");
    assert!(rest.verify(&new, NOW).is_ok());
}

#[test]
fn first_start_makes_one_private_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let keys = data.join(KEY_FOLDER);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

    let rings: Vec<_> = std::thread::scope(|scope| {
        let open = || KeyRing::open(&data, None, NOW).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let kid = rings[0].signing().unwrap().kid();
    assert!(rings.iter().all(|ring| ring.signing().unwrap().kid() == kid));
    let path = keys.join(format!("{kid}.pem"));
    assert_eq!((mode(&keys), mode(&path)), (0o700, 0o600));

    // Left by a kill between create and rename.
    fs::write(keys.join(".new.tmp"), "half").unwrap();
    KeyRing::rotate(&data, NOW).unwrap();
    let mut names: Vec<_> = fs::read_dir(&keys)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| !name.ends_with(".pem"));
    assert_eq!(names, [".lock"]);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = KeyRing::open(&data, None, NOW).unwrap_err();
    assert!(matches!(error, KeyError::OpenToOthers { mode: 0o640, .. }), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(KeyRing::open(&data, None, NOW).is_ok());
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o770)).unwrap();
    assert!(matches!(KeyRing::open(&data, None, NOW), Err(KeyError::OpenToOthers { .. })));
}

#[test]
fn files_that_are_no_keys_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &Path, text: &[u8], mode| {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let secret = folder.path().join("secret");
    let open = || KeyRing::open(folder.path(), Some(&secret), NOW);

    assert!(open().unwrap_err().to_string().contains("secret"), "missing");
    write(&secret, &[SECRET, b"\r\n"].concat(), 0o640);
    let ring = open().unwrap();
    let plain = signed(&Header::default(), &json!({"sub": "alice", "exp": exp()}));
    assert!(ring.verify(&plain, NOW).is_ok(), "the line end is not part of the secret");
    assert_eq!(ring.signing().unwrap().algorithm(), Algorithm::EdDsa);

    write(&secret, SECRET, 0o644);
    assert!(matches!(open(), Err(KeyError::OpenToOthers { mode: 0o644, .. })));
    write(&secret, &[&SECRET[1..], b"\n"].concat(), 0o600);
    assert!(matches!(open(), Err(KeyError::SecretTooShort { bytes: 31 })));
    write(&secret, &[b'x'; SECRET_BYTES_MAX as usize + 1], 0o600);
    assert!(matches!(open(), Err(KeyError::TooLarge { .. })));
    write(&secret, SECRET, 0o600);

    let keys = folder.path().join(KEY_FOLDER);
    write(&keys.join("README"), b"not looked at", 0o644);
    assert!(open().is_ok());
    for (name, text) in [("bad.pem", "hello"), ("a b.pem", &*pem()), ("hs256.pem", &*pem())] {
        write(&keys.join(name), text.as_bytes(), 0o600);
        let error = open().unwrap_err();
        assert!(
            matches!(error, KeyError::NotAKey { .. } | KeyError::BadName { .. }),
            "{name}: {error}"
        );
        fs::remove_file(keys.join(name)).unwrap();
    }
    assert!(matches!(KeyRing::new([]), Err(KeyError::NoKey)));
    assert!(matches!(KeyRing::new([key("a"), key("a")]), Err(KeyError::Duplicate { .. })));
}

#[test]
fn debug_shows_no_secret() {
    let pem = pem();
    let ring =
        KeyRing::new([Key::ed25519("k", &pem).unwrap(), Key::hs256(SECRET).unwrap()]).unwrap();
    assert_eq!(
        format!("{ring:?}"),
        r#"KeyRing { keys: {"hs256": Key(hs256 Hs256), "k": Key(k EdDsa)}, verified: Verified { .. } }"#
    );
}

proptest! {
    #[test]
    fn noise_is_invalid(token in ".{0,200}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,60}", 0..5)) {
        let ring = KeyRing::new([Key::hs256(SECRET).unwrap()]).unwrap();
        prop_assert_eq!(ring.verify(&token, NOW), Err(AuthError::Invalid));
        prop_assert_eq!(ring.verify(&parts.join("."), NOW), Err(AuthError::Invalid));
    }
}
