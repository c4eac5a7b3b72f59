//! What GnuPG has signed.

use smart_sync_tests::Gpg;

use super::super::{KeyRing, SignatureError};
use super::{CONTENT, day, ring_of, verify};

#[test]
fn what_gpg_signs_is_good() {
    let Some(gpg) = Gpg::new() else { return };
    for (user, algorithm) in [("Ed <ed@x>", "ed25519"), ("Rs <rs@x>", "rsa2048"), ("Ec <ec@x>", "nistp256")] {
        let key = gpg.make_key(user, algorithm, "cert,sign", "1y");
        let ring = ring_of(&gpg, &[&key]);
        let armored = gpg.sign(&key, CONTENT);
        let binary = gpg.run(&["--local-user", &key, "--detach-sign"], CONTENT);
        for signature in [&armored, &binary] {
            let signer = verify(&ring, signature, CONTENT, "2026-02-01").unwrap();
            assert_eq!((signer.primary.to_string(), signer.key.to_string()), (key.clone(), key.clone()));
            assert_eq!(
                (signer.user.as_deref(), signer.signed_at.to_string()),
                (Some(user), "2026-01-01T00:00:00Z".into())
            );
            let changed = verify(&ring, signature, b"what is signed", "2026-02-01");
            assert!(matches!(changed, Err(SignatureError::Bad { .. })), "{changed:?}");
        }
        let whole = gpg.clear_sign(&key, "a\n- b \n\n-----BEGIN\n");
        let (text, signer) = ring.verify_clear_text(&whole, day("2026-02-01")).unwrap();
        assert_eq!((text.as_str(), signer.key.to_string()), ("a\n- b\n\n-----BEGIN\n", key));
        let changed = String::from_utf8(whole).unwrap().replacen("\na\n", "\na.\n", 1);
        let changed = ring.verify_clear_text(changed.as_bytes(), day("2026-02-01"));
        assert!(matches!(changed, Err(SignatureError::Bad { .. })), "{changed:?}");
    }
}

#[test]
fn a_signing_subkey_signs_for_its_primary_key() {
    let Some(mut gpg) = Gpg::new() else { return };
    let primary = gpg.make_key("Sub <sub@x>", "ed25519", "cert", "1y");
    let subkey = gpg.add_subkey(&primary, "ed25519", "sign", "6m");
    let signature = gpg.sign(&primary, CONTENT);
    let before = gpg.export(&primary);
    let ring = ring_of(&gpg, &[&primary]);
    let signer = verify(&ring, &signature, CONTENT, "2026-02-01").unwrap();
    assert_eq!((signer.primary.to_string(), signer.key.to_string()), (primary.clone(), subkey));
    // The subkey ends before its primary key does.
    assert!(matches!(
        verify(&ring, &signature, CONTENT, "2026-08-01"),
        Err(SignatureError::Expired { what: "key", key, .. }) if key.to_string() == signer.key.to_string()
    ));
    gpg.set_time("20260301T000000");
    gpg.revoke_subkey(&primary);
    let revoked = verify(&ring_of(&gpg, &[&primary]), &signature, CONTENT, "2026-03-02");
    assert!(
        matches!(&revoked, Err(SignatureError::Revoked { key, .. }) if key.to_string() == signer.key.to_string()),
        "{revoked:?}"
    );
    // A ring that has the key from before as well believes the revocation.
    let both = [before, gpg.export(&primary)].concat();
    let both = KeyRing::from_bytes(&both).unwrap();
    assert!(matches!(verify(&both, &signature, CONTENT, "2026-03-02"), Err(SignatureError::Revoked { .. })));
}

#[test]
fn keys_and_signatures_come_to_an_end() {
    let Some(mut gpg) = Gpg::new() else { return };
    let key = gpg.make_key("End <end@x>", "ed25519", "cert,sign", "30d");
    let ring = ring_of(&gpg, &[&key]);
    let signature = gpg.sign(&key, CONTENT);
    verify(&ring, &signature, CONTENT, "2026-01-30").unwrap();
    let expired = verify(&ring, &signature, CONTENT, "2026-02-01");
    assert!(matches!(expired, Err(SignatureError::Expired { what: "key", .. })), "{expired:?}");
    let early = verify(&ring, &signature, CONTENT, "2025-12-30");
    assert!(matches!(early, Err(SignatureError::Early { what: "signature of", .. })), "{early:?}");

    let short =
        gpg.run(&["--armor", "--local-user", &key, "--default-sig-expire", "5d", "--detach-sign"], CONTENT);
    verify(&ring, &short, CONTENT, "2026-01-05").unwrap();
    let expired = verify(&ring, &short, CONTENT, "2026-01-06");
    assert!(matches!(expired, Err(SignatureError::Expired { what: "signature of", .. })), "{expired:?}");

    // The owner gives it another year.
    gpg.set_time("20260110T000000");
    gpg.run(&["--quick-set-expire", &key, "1y"], b"");
    verify(&ring_of(&gpg, &[&key]), &signature, CONTENT, "2026-02-01").unwrap();
}

#[test]
fn a_revoked_key_counts_for_nothing() {
    let Some(gpg) = Gpg::new() else { return };
    let key = gpg.make_key("Rev <rev@x>", "ed25519", "cert,sign", "1y");
    let before = gpg.export(&key);
    let signature = gpg.sign(&key, CONTENT);
    gpg.revoke_key(&key);
    let revoked = verify(&ring_of(&gpg, &[&key]), &signature, CONTENT, "2026-02-01");
    assert!(matches!(revoked, Err(SignatureError::Revoked { .. })), "{revoked:?}");
    let both = [before.clone(), gpg.export(&key)].concat();
    let both = verify(&KeyRing::from_bytes(&both).unwrap(), &signature, CONTENT, "2026-02-01");
    assert!(matches!(both, Err(SignatureError::Revoked { .. })), "{both:?}");
    verify(&KeyRing::from_bytes(&before).unwrap(), &signature, CONTENT, "2026-02-01").unwrap();
}

#[test]
fn what_others_could_forge_is_refused() {
    let Some(gpg) = Gpg::new() else { return };
    let weak = |key: &str, arguments: &[&str]| {
        let mut whole = vec!["--armor", "--local-user", key, "--detach-sign"];
        whole.splice(0..0, arguments.iter().copied());
        let signature = gpg.run(&whole, CONTENT);
        let refused = verify(&ring_of(&gpg, &[key]), &signature, CONTENT, "2026-02-01");
        assert!(matches!(refused, Err(SignatureError::Weak { .. })), "{arguments:?}: {refused:?}");
    };
    let strong = gpg.make_key("Strong <strong@x>", "rsa2048", "cert,sign", "1y");
    for digest in ["SHA1", "RIPEMD160"] {
        weak(&strong, &["--allow-weak-digest-algos", "--digest-algo", digest]);
    }
    weak(&gpg.make_key("Short <short@x>", "rsa1024", "cert,sign", "1y"), &[]);
    weak(&gpg.make_key("Dsa <dsa@x>", "dsa2048", "cert,sign", "1y"), &["--digest-algo", "SHA256"]);
}

#[test]
fn one_good_signature_among_others_is_enough() {
    let Some(gpg) = Gpg::new() else { return };
    let [one, other] =
        ["One <one@x>", "Other <other@x>"].map(|user| gpg.make_key(user, "ed25519", "cert,sign", "1y"));
    let both = gpg.run(&["--local-user", &one, "--local-user", &other, "--detach-sign"], CONTENT);
    for key in [&one, &other] {
        let signer = verify(&ring_of(&gpg, &[key]), &both, CONTENT, "2026-02-01").unwrap();
        assert_eq!(signer.primary.to_string(), *key);
    }
    let third = gpg.make_key("Third <third@x>", "ed25519", "cert,sign", "1y");
    let unknown = verify(&ring_of(&gpg, &[&third]), &both, CONTENT, "2026-02-01").unwrap_err();
    for key in [&one, &other] {
        assert!(unknown.to_string().contains(key.as_str()), "{unknown}");
    }
    assert!(matches!(unknown, SignatureError::UnknownKey(keys) if keys.len() == 2));
    let none = verify(&ring_of(&gpg, &[&third]), b"", CONTENT, "2026-02-01");
    assert!(matches!(none, Err(SignatureError::NotSigned)), "{none:?}");
    let many = both.repeat(9);
    let many = verify(&ring_of(&gpg, &[&one]), &many, CONTENT, "2026-02-01");
    assert!(matches!(many, Err(SignatureError::Malformed(_))), "{many:?}");
}

#[test]
fn rings_are_files_and_directories_of_files() {
    let Some(gpg) = Gpg::new() else { return };
    let one = gpg.make_key("One <one@x>", "ed25519", "cert,sign", "1y");
    let other = gpg.make_key("Other <other@x>", "ed25519", "cert,sign", "1y");
    let directory = gpg.home().join("rings");
    std::fs::create_dir(&directory).unwrap();
    let binary = gpg.run(&["--export", &one], b"");
    gpg.write("rings/one.gpg", &binary);
    gpg.write("rings/other.asc", &[b"Of the other one:\n".to_vec(), gpg.export(&other)].concat());
    gpg.write("rings/.hidden", b"no ring");
    assert_eq!(KeyRing::open(std::slice::from_ref(&directory)).unwrap().len(), 2);
    assert_eq!(KeyRing::open(&[directory.join("one.gpg"), directory.join("one.gpg")]).unwrap().len(), 1);
    let secret = gpg.write("secret", &gpg.export_secret(&one));
    let refused = KeyRing::open(&[secret]).unwrap_err().to_string();
    assert!(refused.contains("PRIVATE KEY"), "{refused}");
    gpg.write("rings/README", b"no ring");
    let refused = KeyRing::open(&[directory]).unwrap_err().to_string();
    assert!(refused.contains("README is no key ring: there is no key in it"), "{refused}");
}
