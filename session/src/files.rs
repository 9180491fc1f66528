//! The files of keys and certificates: TOML text with a `kind`, written whole or not at all.
//!
//! A file is written beside its place under another name, flushed, and linked into place, which fails where something
//! is there already: keys are never overwritten and never half there. Secret files have mode 0600 from their first
//! byte on, and one that others can read is refused.

use crate::certificate::is_name;
use crate::hex;
use crate::identity::{Authority, AuthorityKey, Certificate, Identity, IdentityError, PublicKey};
use crate::limits::FILE_BYTES_MAX;
use crate::text::Document;
use ed25519_dalek::SigningKey;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const KIND_AUTHORITY_SECRET: &str = "vinet-authority-secret";
const KIND_AUTHORITY: &str = "vinet-authority";
const KIND_IDENTITY: &str = "vinet-identity";

impl AuthorityKey {
    /// Reads what [`AuthorityKey::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<AuthorityKey, IdentityError> {
        let text = read(path, Secret::Yes)?;
        let fields = fields(path, &text, KIND_AUTHORITY_SECRET, &["kind", "name", "secret"], ["name", "secret"])?;
        let [name, secret] = fields;
        Ok(AuthorityKey {
            name: checked_name(path, name)?,
            secret: SigningKey::from_bytes(&digits(path, "secret", &secret)?),
        })
    }
    /// Writes the secret key, mode 0600, to a file that is not there yet.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let text = format!(
            "# The secret key of a VInet authority: whoever has it can make certificates for any address.\n\
             kind = \"{KIND_AUTHORITY_SECRET}\"\nname = \"{}\"\nsecret = \"{}\"\n",
            self.name,
            hex::encode(&self.secret.to_bytes())
        );
        write(path, &text, Secret::Yes)
    }
}

impl Authority {
    /// Reads what [`Authority::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<Authority, IdentityError> {
        let text = read(path, Secret::No)?;
        let [name, key] = fields(path, &text, KIND_AUTHORITY, &["kind", "name", "key"], ["name", "key"])?;
        Ok(Authority { name: checked_name(path, name)?, key: PublicKey(digits(path, "key", &key)?) })
    }
    /// Writes the public half to a file that is not there yet.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let text = format!(
            "# A VInet authority: every router and owner of its testbed trusts what this key has signed.\n\
             kind = \"{KIND_AUTHORITY}\"\nname = \"{}\"\nkey = \"{}\"\n",
            self.name, self.key
        );
        write(path, &text, Secret::No)
    }
}

impl Identity {
    /// Reads what [`Identity::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<Identity, IdentityError> {
        let text = read(path, Secret::Yes)?;
        let known = &["kind", "secret", "certificate"];
        let [secret, certificate] = fields(path, &text, KIND_IDENTITY, known, ["secret", "certificate"])?;
        let secret = SigningKey::from_bytes(&digits(path, "secret", &secret)?);
        let bytes = hex::decode(&certificate).ok_or_else(|| form(path, "`certificate` must be hexadecimal digits"))?;
        let certificate = Certificate::decode(&bytes).map_err(|fault| form(path, fault))?;
        if certificate.key().0 != secret.verifying_key().to_bytes() {
            return Err(form(path, "the certificate is for another key than `secret`; were two files mixed?"));
        }
        Ok(Identity { secret, certificate })
    }
    /// Writes the secret key and the certificate, mode 0600, to a file that is not there yet.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let validity = self.certificate.validity();
        let text = format!(
            "# The secret key of {}, and the authority's certificate for it.\n\
             # Valid from second {} to second {} (Unix time). Key {}, authority {}.\n\
             kind = \"{KIND_IDENTITY}\"\nsecret = \"{}\"\ncertificate = \"{}\"\n",
            self.certificate.subject(),
            validity.not_before_s,
            validity.not_after_s,
            self.certificate.key(),
            self.certificate.authority(),
            hex::encode(&self.secret.to_bytes()),
            hex::encode(&self.certificate.encode())
        );
        write(path, &text, Secret::Yes)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    Yes,
    No,
}

fn form(path: &Path, what: impl ToString) -> IdentityError {
    IdentityError::Form { path: path.to_path_buf(), what: what.to_string() }
}

fn io(path: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> IdentityError {
    let path = path.to_path_buf();
    move |error| IdentityError::Io { path, doing, error: error.to_string() }
}

fn checked_name(path: &Path, name: String) -> Result<String, IdentityError> {
    if is_name(&name) { Ok(name) } else { Err(form(path, IdentityError::BadName(name))) }
}

fn digits(path: &Path, key: &str, text: &str) -> Result<[u8; 32], IdentityError> {
    hex::decode_array(text).ok_or_else(|| form(path, format!("`{key}` must be 64 hexadecimal digits")))
}

/// The strings `wanted` of a file of `kind` that has the keys `known` and no other.
fn fields<const N: usize>(
    path: &Path,
    text: &str,
    kind: &str,
    known: &'static [&'static str],
    wanted: [&'static str; N],
) -> Result<[String; N], IdentityError> {
    let document = Document { file: path, text };
    // The place of a fault names the file, so the error only repeats the rest.
    let fault = |f: crate::text::TomlFault| form(path, format!("line {}: {}", f.place.line, f.what));
    // A file of another kind has other keys; say so before naming those.
    if let Some(found) = toml::de::DeTable::parse(text).ok().and_then(|t| match t.get_ref().get("kind")?.get_ref() {
        toml::de::DeValue::String(found) if found != kind => Some(found.clone().into_owned()),
        _ => None,
    }) {
        return Err(form(path, format!("this is a `{}` file; expected `{kind}`", found.escape_debug())));
    }
    let mut table = document.root(known).map_err(fault)?;
    table.string("kind", &format!("`{kind}`")).map_err(fault)?;
    let mut values = [const { String::new() }; N];
    for (value, key) in values.iter_mut().zip(wanted) {
        *value = table.string(key, "a string").map_err(fault)?.0;
    }
    Ok(values)
}

fn read(path: &Path, secret: Secret) -> Result<String, IdentityError> {
    let file = File::open(path).map_err(io(path, "open it"))?;
    let metadata = file.metadata().map_err(io(path, "look at it"))?;
    if secret == Secret::Yes && metadata.mode() & 0o077 != 0 {
        return Err(IdentityError::TooOpen { path: path.to_path_buf(), mode: metadata.mode() & 0o7777 });
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io(path, "read it"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(form(path, format!("the file has more than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| form(path, "the file is not UTF-8 text"))
}

fn write(path: &Path, text: &str, secret: Secret) -> Result<(), IdentityError> {
    let name = path.file_name().ok_or_else(|| form(path, "this names no file"))?;
    let mut beside_name = std::ffi::OsString::from(".");
    beside_name.push(name);
    beside_name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(beside_name);
    let mode = if secret == Secret::Yes { 0o600 } else { 0o644 };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(io(&beside, "create it"))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io(path, "write it"))
        // A link, unlike a rename, fails where something stands.
        .and_then(|()| {
            std::fs::hard_link(&beside, path).map_err(|error| match error.kind() {
                std::io::ErrorKind::AlreadyExists => IdentityError::Exists(path.to_path_buf()),
                _ => io(path, "put it into place")(error),
            })
        });
    let removed = std::fs::remove_file(&beside).map_err(io(&beside, "remove it"));
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Subject, Validity, parse_principal};
    use std::os::unix::fs::PermissionsExt;

    fn identity(key: &AuthorityKey) -> Identity {
        let subject = Subject::Owner(parse_principal("192.0.2.7").unwrap());
        key.issue_identity(subject, Validity::starting(5, 60)).unwrap()
    }

    #[test]
    fn files_give_back_what_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let key = AuthorityKey::generate("testbed").unwrap();
        let identity = identity(&key);
        key.save(&at("ca.key")).unwrap();
        key.authority().save(&at("ca.pub")).unwrap();
        identity.save(&at("me.id")).unwrap();
        assert_eq!(AuthorityKey::load(&at("ca.key")).unwrap().secret.to_bytes(), key.secret.to_bytes());
        assert_eq!(Authority::load(&at("ca.pub")).unwrap(), key.authority());
        let again = Identity::load(&at("me.id")).unwrap();
        assert_eq!(again.certificate(), identity.certificate());
        assert_eq!(again.secret.to_bytes(), identity.secret.to_bytes());
        for (name, mode) in [("ca.key", 0o600), ("me.id", 0o600), ("ca.pub", 0o644)] {
            let found = std::fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
            // The process's umask may take permissions away from the public file; it never adds any.
            assert_eq!(found & !mode, 0, "{name}: {found:o}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "a file was left over");
    }

    #[test]
    fn keys_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.key");
        AuthorityKey::generate("a").unwrap().save(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = AuthorityKey::generate("b").unwrap().save(&path).unwrap_err();
        assert_eq!(error, IdentityError::Exists(path.clone()));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "a file was left over");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("me.id");
        identity(&AuthorityKey::generate("a").unwrap()).save(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Identity::load(&path), Err(IdentityError::TooOpen { mode: 0o640, .. })));
    }

    #[test]
    fn broken_files_are_named_with_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let key = AuthorityKey::generate("a").unwrap();
        key.save(&path).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let expect = |text: &str, part: &str| {
            std::fs::write(&path, text).unwrap();
            let message = AuthorityKey::load(&path).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("file"), "{message}");
        };
        expect(&good.replace("secret =", "sercet ="), "did you mean `secret`?");
        expect(&good.replace(KIND_AUTHORITY_SECRET, KIND_IDENTITY), "expected `vinet-authority-secret`");
        expect(&good.replace("name = \"a\"", "name = \"a b\""), "is no name");
        expect(&good.replace("secret = \"", "secret = \"0"), "64 hexadecimal digits");
        expect(&good.replace("name = \"a\"", ""), "`name` is missing");
        expect("kind = ", "not valid TOML");
        expect("", "`kind` is missing");
        let other = identity(&key);
        let mixed = format!(
            "kind = \"{KIND_IDENTITY}\"\nsecret = \"{}\"\ncertificate = \"{}\"\n",
            hex::encode(&key.secret.to_bytes()),
            hex::encode(&other.certificate().encode())
        );
        std::fs::write(&path, mixed).unwrap();
        assert!(Identity::load(&path).unwrap_err().to_string().contains("another key"));
    }
}
