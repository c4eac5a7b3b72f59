//! What is signed here, judged by GnuPG and by ourselves.

use smart_sync_tests::Gpg;

use super::super::{KeyError, SigningKey};
use super::{CONTENT, day, ring_of, verify};

const TEXT: &str = "DATA a 1\n- with a dash\n\nDATA b 2\n";

#[test]
fn gpg_takes_what_is_signed_here() {
    let Some(mut gpg) = Gpg::new() else { return };
    for algorithm in ["ed25519", "rsa2048", "nistp256"] {
        let key = gpg.make_key(&format!("{algorithm} <x@x>"), algorithm, "cert,sign", "1y");
        check(&gpg, &key, &key);
    }
    let primary = gpg.make_key("Sub <sub@x>", "ed25519", "cert", "1y");
    gpg.add_subkey(&primary, "ed25519", "sign", "1y");
    gpg.set_time("20260102T000000");
    let newest = gpg.add_subkey(&primary, "ed25519", "sign", "1y");
    check(&gpg, &primary, &newest);
    // A build host has the subkeys alone, and of the primary key nothing that is secret.
    let subkeys = gpg.run(&["--armor", "--export-secret-subkeys", &primary], b"");
    let signing = SigningKey::open(&gpg.write("subkeys", &subkeys), None, day("2026-01-03")).unwrap();
    assert_eq!(signing.fingerprint().to_string(), newest);
}

#[track_caller]
fn check(gpg: &Gpg, primary: &str, key: &str) {
    let path = gpg.write("secret", &gpg.export_secret(primary));
    let signing = SigningKey::open(&path, None, day("2026-01-03")).unwrap();
    assert_eq!(
        (signing.primary().to_string(), signing.fingerprint().to_string()),
        (primary.into(), key.into())
    );
    let detached = signing.sign_detached(CONTENT, day("2026-01-03")).unwrap();
    let clear = signing.sign_clear_text(TEXT, day("2026-01-03")).unwrap();

    let mut later = gpg.command();
    // The last one that is given counts.
    later.arg("--faked-system-time=20260201T000000!").arg("--verify");
    later.arg(gpg.write("content.sig", detached.as_bytes())).arg(gpg.write("content", CONTENT));
    let said = smart_sync_tests::program::run(&mut later).success();
    said.stderr_contains(&format!("VALIDSIG {key}"));
    let mut later = gpg.command();
    later
        .arg("--faked-system-time=20260201T000000!")
        .arg("--decrypt")
        .arg(gpg.write("text", clear.as_bytes()));
    let said =
        smart_sync_tests::program::run(&mut later).success().stderr_contains(&format!("VALIDSIG {key}"));
    assert_eq!(said.stdout, TEXT);

    let ring = ring_of(gpg, &[primary]);
    assert_eq!(verify(&ring, detached.as_bytes(), CONTENT, "2026-02-01").unwrap().key.to_string(), key);
    let (text, signer) = ring.verify_clear_text(clear.as_bytes(), day("2026-02-01")).unwrap();
    assert_eq!((text.as_str(), signer.key.to_string().as_str()), (TEXT, key));
}

#[test]
fn a_passphrase_opens_a_key() {
    let Some(gpg) = Gpg::new() else { return };
    let pass = ["--passphrase", "open it"];
    gpg.run(
        &[&pass[..], &["--quick-generate-key", "Pass <pass@x>", "ed25519", "cert,sign", "1y"]].concat(),
        b"",
    );
    let secret = gpg.run(&[&pass[..], &["--armor", "--export-secret-keys"]].concat(), b"");
    let path = gpg.write("secret", &secret);
    let open = |passphrase: Option<&[u8]>| {
        let file = passphrase.map(|passphrase| gpg.write("passphrase", passphrase));
        SigningKey::open(&path, file.as_deref(), day("2026-01-03"))
    };
    let signing = open(Some(b"open it\nanother line\n")).unwrap();
    let signature = signing.sign_detached(CONTENT, day("2026-01-03")).unwrap();
    let ring = ring_of(&gpg, &["Pass <pass@x>"]);
    verify(&ring, signature.as_bytes(), CONTENT, "2026-02-01").unwrap();
    assert!(!format!("{signing:?}").contains("secret"));
    assert!(matches!(open(None), Err(KeyError::Locked { reason: "none is given", .. })));
    assert!(matches!(open(Some(b"open")), Err(KeyError::Locked { .. })));
}

#[test]
fn a_key_that_must_not_sign_does_not() {
    let Some(gpg) = Gpg::new() else { return };
    let refused = |key: &str, now: &str, reason: &str| {
        let path = gpg.write("secret", &gpg.export_secret(key));
        let said = SigningKey::open(&path, None, day(now)).unwrap_err().to_string();
        assert!(said.contains(reason), "{said}");
    };
    let ended = gpg.make_key("End <end@x>", "ed25519", "cert,sign", "30d");
    refused(&ended, "2026-02-02", "has expired");
    let certifies = gpg.make_key("Cert <cert@x>", "ed25519", "cert", "1y");
    refused(&certifies, "2026-02-02", "made for something else");
    gpg.revoke_key(&ended);
    refused(&ended, "2026-01-02", "was revoked");
    let path = gpg.write("public", &gpg.export(&certifies));
    let said = SigningKey::open(&path, None, day("2026-01-02")).unwrap_err().to_string();
    assert!(said.contains("it holds a PGP PUBLIC KEY BLOCK"), "{said}");
}

#[test]
fn a_text_that_is_read_in_two_ways_is_not_signed() {
    let Some(gpg) = Gpg::new() else { return };
    let key = gpg.make_key("One <one@x>", "ed25519", "cert,sign", "1y");
    let path = gpg.write("secret", &gpg.export_secret(&key));
    let signing = SigningKey::open(&path, None, day("2026-01-03")).unwrap();
    for text in ["", "a", "a \n", "a\r\n", "a\u{1b}\n"] {
        assert!(
            matches!(signing.sign_clear_text(text, day("2026-01-03")), Err(KeyError::Text(_))),
            "{text:?}"
        );
    }
}
