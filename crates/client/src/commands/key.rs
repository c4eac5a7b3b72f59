//! `key`: making keys, and the forms in which others have to know them.

use smart_sync_sync::key::{
    KeyName, KeyType, ParseVerifierKeyError, PublicKey, SecretKey, Signer, VerifierKey, minisig, sshsig,
};

use super::Listing;
use crate::args::trust::{KeyCommand, KeyGenerateArgs, KeyShowArgs};
use crate::failure::{Exit, Failure};
use crate::output::{Format, Output};
use crate::{passphrase, signing};

/// Runs a subcommand of `key`.
pub fn run(command: &KeyCommand, output: &Output) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Generate(args) => generate(args, output),
        KeyCommand::Show(args) => show(args, output),
    }
}

fn generate(args: &KeyGenerateArgs, output: &Output) -> Result<Exit, Failure> {
    let name = parse_name(&args.name)?;
    let path = &args.output;
    if path.symlink_metadata().is_ok() {
        let text = format!("{} exists already, and a key is never overwritten", path.display());
        return Err(Failure::message(Exit::Arguments, text));
    }
    let passphrase =
        if args.passphrase { Some(passphrase::ask_for_new("Passphrase for the new key: ")?) } else { None };
    let key = SecretKey::generate(name)
        .map_err(|error| Failure::from(error).context("asking the system for random bytes"))?;
    key.save(path, passphrase.as_ref().map(|passphrase| passphrase.as_str()))?;
    output.info(&format!(
        "the secret half is in {}: keep it where only its holder can read it",
        path.display()
    ));
    print(key.name(), key.public_key(), output)
}

fn show(args: &KeyShowArgs, output: &Output) -> Result<Exit, Failure> {
    let key = signing::load(&args.key)?;
    let name = args.name.as_deref().map(parse_name).transpose()?;
    print(name.as_ref().unwrap_or(key.name()), key.public_key(), output)
}

fn parse_name(name: &str) -> Result<KeyName, Failure> {
    name.parse().map_err(|error: ParseVerifierKeyError| Failure::new(Exit::Arguments, error))
}

fn print(name: &KeyName, key: &PublicKey, output: &Output) -> Result<Exit, Failure> {
    let vkey = |key_type| VerifierKey::new(name.clone(), key_type, key.clone()).to_string();
    let (signature, cosignature) = (vkey(KeyType::Ed25519), vkey(KeyType::Cosignature));
    let (ssh, fingerprint) = (sshsig::public_key_text(name, key), sshsig::fingerprint(key));
    let minisign = minisig::public_key_text(key);
    // The second of its two lines is what `minisign -P` takes.
    let minisign = minisign.lines().nth(1).unwrap_or_default();
    if output.format() == Format::Json {
        output.event(&serde_json::json!({
            "event": "key",
            "name": name.as_str(),
            "signature": signature,
            "cosignature": cosignature,
            "ssh": ssh,
            "fingerprint": fingerprint,
            "minisign": minisign,
        }));
        return Ok(Exit::Success);
    }
    let mut listing = Listing::default();
    listing.line(&format!("name         {name}"));
    listing.line(&format!("signature    {signature}"));
    listing.line(&format!("cosignature  {cosignature}"));
    listing.line(&format!("ssh          {ssh}"));
    listing.line(&format!("fingerprint  {fingerprint}"));
    listing.line(&format!("minisign     {minisign}"));
    listing.print(output)?;
    Ok(Exit::Success)
}
