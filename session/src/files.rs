//! The files of keys, certificates, credits, and the authority's lists: TOML text with a `kind`, written whole or not at
//! all.
//!
//! A file is written beside its place under another name, flushed, and put into place. Keys and credits are linked there,
//! which fails where something is there already: they are never overwritten and never half there. The authority's lists
//! take the place of older ones. Secret files have mode 0600 from their first byte on, and one that others can read is
//! refused.

use crate::certificate::is_name;
use crate::directory::SignedDirectory;
use crate::hex;
use crate::identity::{Authority, AuthorityKey, Certificate, Identity, IdentityError, PublicKey};
use crate::limits::{FILE_BYTES_MAX, LIST_FILE_BYTES_MAX};
use crate::payment::{Bank, BankKey, Credit, Quote};
use crate::revocation::RevocationList;
use crate::text::Document;
use ed25519_dalek::SigningKey;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const KIND_AUTHORITY_SECRET: &str = "vinet-authority-secret";
const KIND_AUTHORITY: &str = "vinet-authority";
const KIND_IDENTITY: &str = "vinet-identity";
const KIND_BANK_SECRET: &str = "vinet-bank-secret";
const KIND_BANK: &str = "vinet-bank";
const KIND_CREDIT: &str = "vinet-credit";
const KIND_QUOTE: &str = "vinet-quote";
const KIND_REVOCATIONS: &str = "vinet-revocations";
const KIND_DIRECTORY: &str = "vinet-directory";

impl AuthorityKey {
    /// Reads what [`AuthorityKey::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<AuthorityKey, IdentityError> {
        let text = read(path, Secret::Yes, FILE_BYTES_MAX)?;
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
        write(path, &text, Secret::Yes, Old::Keep)
    }
}

impl Authority {
    /// Reads what [`Authority::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<Authority, IdentityError> {
        let text = read(path, Secret::No, FILE_BYTES_MAX)?;
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
        write(path, &text, Secret::No, Old::Keep)
    }
}

impl Identity {
    /// Reads what [`Identity::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<Identity, IdentityError> {
        let text = read(path, Secret::Yes, FILE_BYTES_MAX)?;
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
        write(path, &text, Secret::Yes, Old::Keep)
    }
}

impl BankKey {
    /// Reads what [`BankKey::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<BankKey, IdentityError> {
        let text = read(path, Secret::Yes, FILE_BYTES_MAX)?;
        let [name, secret] = fields(path, &text, KIND_BANK_SECRET, &["kind", "name", "secret"], ["name", "secret"])?;
        let secret = SigningKey::from_bytes(&digits(path, "secret", &secret)?);
        Ok(BankKey { name: checked_name(path, name)?, secret })
    }
    /// Writes the secret key, mode 0600, to a file that is not there yet.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let text = format!(
            "# The secret key of a VInet bank: whoever has it can make credits.\n\
             kind = \"{KIND_BANK_SECRET}\"\nname = \"{}\"\nsecret = \"{}\"\n",
            self.name,
            hex::encode(&self.secret.to_bytes())
        );
        write(path, &text, Secret::Yes, Old::Keep)
    }
}

impl Bank {
    /// Reads what [`Bank::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<Bank, IdentityError> {
        let text = read(path, Secret::No, FILE_BYTES_MAX)?;
        let [name, key] = fields(path, &text, KIND_BANK, &["kind", "name", "key"], ["name", "key"])?;
        Ok(Bank { name: checked_name(path, name)?, key: PublicKey(digits(path, "key", &key)?) })
    }
    /// Writes the public half to a file that is not there yet.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let text = format!(
            "# A VInet bank: routers that name it are paid with the credits that this key has signed.\n\
             kind = \"{KIND_BANK}\"\nname = \"{}\"\nkey = \"{}\"\n",
            self.name, self.key
        );
        write(path, &text, Secret::No, Old::Keep)
    }
}

impl Credit {
    /// Reads what [`Credit::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<Credit, IdentityError> {
        Credit::decode(&signed(path, KIND_CREDIT, "credit", FILE_BYTES_MAX)?).map_err(|fault| form(path, fault))
    }
    /// Writes the credit to a file that is not there yet. It is no secret: only the account that it names can use it.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let terms = self.terms();
        let text = format!(
            "# {} credits for the owner with key {},\n# at the router with key {}, until second {} (Unix time).\n\
             kind = \"{KIND_CREDIT}\"\ncredit = \"{}\"\n",
            terms.amount,
            terms.account,
            terms.router,
            terms.expiry_s,
            hex::encode(&self.encode())
        );
        write(path, &text, Secret::No, Old::Keep)
    }
}

impl Quote {
    /// Reads what [`Quote::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<Quote, IdentityError> {
        Quote::decode(&signed(path, KIND_QUOTE, "quote", FILE_BYTES_MAX)?).map_err(|fault| form(path, fault))
    }
    /// Writes the quote, in the place of one that may be there.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let terms = self.terms();
        let text = format!(
            "# {} credits for a program of {} with complexity {}, for {} s at {} packets a second;\n\
             # until second {} (Unix time).\nkind = \"{KIND_QUOTE}\"\nquote = \"{}\"\n",
            terms.price,
            terms.principal,
            terms.complexity,
            terms.lifetime_s,
            terms.packet_rate,
            terms.expiry_s,
            hex::encode(&self.encode())
        );
        write(path, &text, Secret::No, Old::Replace)
    }
}

impl RevocationList {
    /// Reads what [`RevocationList::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<RevocationList, IdentityError> {
        let bytes = signed(path, KIND_REVOCATIONS, "list", LIST_FILE_BYTES_MAX)?;
        RevocationList::decode(&bytes).map_err(|fault| form(path, fault))
    }
    /// Writes the list, in the place of one that may be there.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let text = format!(
            "# List {} of the keys that the authority with key {} has revoked: {} of them, at second {} (Unix time).\n\
             kind = \"{KIND_REVOCATIONS}\"\nlist = \"{}\"\n",
            self.number(),
            self.authority(),
            self.keys().len(),
            self.issued_s(),
            hex::encode(&self.encode())
        );
        write(path, &text, Secret::No, Old::Replace)
    }
}

impl SignedDirectory {
    /// Reads what [`SignedDirectory::save`] wrote.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn load(path: &Path) -> Result<SignedDirectory, IdentityError> {
        let bytes = signed(path, KIND_DIRECTORY, "directory", LIST_FILE_BYTES_MAX)?;
        SignedDirectory::decode(&bytes).map_err(|fault| form(path, fault))
    }
    /// Writes the directory, with its entries as comments, in the place of one that may be there.
    ///
    /// # Errors
    /// An [`IdentityError`] that names the file.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let directory = self.directory();
        let mut text = format!(
            "# Directory {} of a VInet testbed, made at second {} (Unix time): which router controls which sources.\n",
            directory.number(),
            directory.issued_s()
        );
        for entry in directory.entries() {
            text.push_str(&format!("# {} {} {:?}\n", entry.prefix, entry.router_name, entry.endpoints));
        }
        let bytes = hex::encode(&self.encode());
        text.push_str(&format!("kind = \"{KIND_DIRECTORY}\"\ndirectory = \"{bytes}\"\n"));
        write(path, &text, Secret::No, Old::Replace)
    }
}

/// The bytes that a file of `kind` has under `key`.
fn signed(path: &Path, kind: &str, key: &'static str, bytes_max: u64) -> Result<Vec<u8>, IdentityError> {
    let text = read(path, Secret::No, bytes_max)?;
    let known: &'static [&'static str] = match key {
        "credit" => &["kind", "credit"],
        "quote" => &["kind", "quote"],
        "list" => &["kind", "list"],
        _ => &["kind", "directory"],
    };
    let [digits] = fields(path, &text, kind, known, [key])?;
    hex::decode(&digits).ok_or_else(|| form(path, format!("`{key}` must be hexadecimal digits")))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Secret {
    Yes,
    No,
}

/// What becomes of a file that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    Keep,
    Replace,
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

fn read(path: &Path, secret: Secret, bytes_max: u64) -> Result<String, IdentityError> {
    let file = File::open(path).map_err(io(path, "open it"))?;
    let metadata = file.metadata().map_err(io(path, "look at it"))?;
    if secret == Secret::Yes && metadata.mode() & 0o077 != 0 {
        return Err(IdentityError::TooOpen { path: path.to_path_buf(), mode: metadata.mode() & 0o7777 });
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(io(path, "read it"))?;
    if bytes.len() as u64 > bytes_max {
        return Err(form(path, format!("the file has more than {bytes_max} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| form(path, "the file is not UTF-8 text"))
}

fn write(path: &Path, text: &str, secret: Secret, old: Old) -> Result<(), IdentityError> {
    let name = path.file_name().ok_or_else(|| form(path, "this names no file"))?;
    let mut beside_name = std::ffi::OsString::from(".");
    beside_name.push(name);
    beside_name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(beside_name);
    let mode = if secret == Secret::Yes { 0o600 } else { 0o644 };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside).map_err(io(&beside, "create it"))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io(path, "write it"));
    if old == Old::Replace && written.is_ok() {
        return std::fs::rename(&beside, path).map_err(io(path, "put it into place"));
    }
    // A link, unlike a rename, fails where something stands.
    let written = written.and_then(|()| {
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
    use crate::directory::{Directory, DirectoryEntry};
    use crate::identity::{Subject, Validity, parse_principal};
    use crate::payment::{CreditTerms, QuoteTerms};
    use crate::signed::Class;
    use std::os::unix::fs::PermissionsExt;
    use vinet_trusted::addr::{Addr, Prefix};

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
    fn banks_credits_and_the_authoritys_lists_give_back_what_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (key, bank) = (AuthorityKey::generate("testbed").unwrap(), BankKey::generate("mint").unwrap());
        bank.save(&at("bank.key")).unwrap();
        bank.bank().save(&at("bank.pub")).unwrap();
        assert_eq!(BankKey::load(&at("bank.key")).unwrap().secret.to_bytes(), bank.secret.to_bytes());
        assert_eq!(Bank::load(&at("bank.pub")).unwrap(), bank.bank());
        let mode = std::fs::metadata(at("bank.key")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & !0o600, 0, "{mode:o}");
        let (router, account) = (identity(&key).public(), identity(&key).public());
        let terms = CreditTerms { serial: [1; 16], amount: 9, router, account, expiry_s: 7 };
        let credit = Credit::sign(terms, &bank);
        credit.save(&at("credit")).unwrap();
        assert_eq!(Credit::load(&at("credit")).unwrap(), credit);
        assert_eq!(credit.save(&at("credit")), Err(IdentityError::Exists(at("credit"))), "money is not overwritten");
        let quote = QuoteTerms {
            principal: parse_principal("192.0.2.7").unwrap(),
            class: Class::Header,
            complexity: 1,
            packet_rate: 2,
            state_bytes: 3,
            lifetime_s: 4,
            price: 5,
            expiry_s: 6,
            nonce: [7; 16],
        };
        let quote = Quote::sign(quote, &identity(&key));
        quote.save(&at("quote")).unwrap();
        assert_eq!(Quote::load(&at("quote")).unwrap(), quote);
        let entries = |name: &str| {
            let prefix = Prefix::new(Addr::V4(0x0a00_0000), 8).unwrap();
            let endpoints = vec!["203.0.113.1:7400".parse().unwrap()];
            vec![DirectoryEntry { prefix, router_name: name.to_owned(), endpoints }]
        };
        // The lists are replaced.
        for number in [1, 2] {
            let list = RevocationList::sign(number, 5, vec![router, account], &key).unwrap();
            list.save(&at("revoked")).unwrap();
            assert_eq!(RevocationList::load(&at("revoked")).unwrap(), list);
            let directory = Directory::new(number, 5, entries("edge-1")).unwrap();
            let directory = SignedDirectory::sign(directory, &key);
            directory.save(&at("directory")).unwrap();
            assert_eq!(SignedDirectory::load(&at("directory")).unwrap(), directory);
        }
        let wrong = SignedDirectory::load(&at("revoked")).unwrap_err().to_string();
        assert!(wrong.contains("expected `vinet-directory`"), "{wrong}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 6, "a file was left over");
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
