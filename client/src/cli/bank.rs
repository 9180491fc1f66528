//! The commands of a testbed's bank.

use super::answer::{self, Failure, Outcome};
use super::session::now_s;
use clap::Subcommand;
use std::path::{Path, PathBuf};
use vinet_client::lang::lifetime;
use vinet_session::identity::{Identity, PublicKey};
use vinet_session::message::{Credit, fresh_nonce};
use vinet_session::payment::{BankKey, CreditTerms};

pub(super) const SECRET: &str = "bank.key";
pub(super) const PUBLIC: &str = "bank.pub";

#[derive(Subcommand)]
pub(super) enum Bank {
    /// Make a bank: DIR/bank.key, to be kept secret, and DIR/bank.pub, for routers
    Init {
        /// Where it goes
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Its name
        #[arg(long, default_value = "bank")]
        name: String,
    },
    /// Issue a credit: an amount for one owner at one router
    Issue {
        /// The bank's folder
        #[arg(long, value_name = "DIR")]
        bank: PathBuf,
        /// Whose account: a public key (64 hexadecimal digits), or the file of an identity
        #[arg(long = "to", value_name = "KEY|FILE")]
        account: String,
        /// How much, in credits
        #[arg(long, value_name = "CREDITS", value_parser = clap::value_parser!(u64).range(1..))]
        amount: u64,
        /// The router that takes it: its public key, or the file of its identity
        #[arg(long, value_name = "KEY|FILE")]
        router: String,
        /// How long it can be deposited
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = lifetime::parse)]
        valid: u32,
        /// The file to make
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

pub(super) fn run(command: Bank) -> Outcome {
    match command {
        Bank::Init { out, name } => init(&out, &name),
        Bank::Issue { bank, account, amount, router, valid, out } => {
            let terms = CreditTerms {
                serial: fresh_nonce()?,
                amount,
                router: key(&router)?,
                account: key(&account)?,
                expiry_s: now_s() + u64::from(valid),
            };
            let credit = Credit::sign(terms, &BankKey::load(&bank.join(SECRET))?);
            credit.save(&out)?;
            answer::print(&format_args!("{amount} credits in {}", out.display()))
        }
    }
}

/// Makes a bank in the folder `dir`.
pub(super) fn init(dir: &Path, name: &str) -> Outcome {
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::Unusable(format!("cannot make the folder {}: {error}", dir.display())))?;
    let key = BankKey::generate(name)?;
    key.save(&dir.join(SECRET))?;
    Ok(key.bank().save(&dir.join(PUBLIC))?)
}

/// The public key that `text` writes, or that the identity in the file of that name has.
pub(super) fn key(text: &str) -> Result<PublicKey, Failure> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    if !path.exists() {
        let expected = "neither a public key (64 hexadecimal digits) nor the file of an identity";
        return Err(Failure::Unusable(format!("`{}` is {expected}", text.escape_debug())));
    }
    Ok(Identity::load(path)?.public())
}
