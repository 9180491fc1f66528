//! The command line: what can be asked, and how answers are given.
//!
//! Exit status: 0 yes or done; 1 a lawful no (rejected, not proven, not found), with the reason on stderr; 2 unusable
//! arguments or files, or no way to the router. With `--json`, stdout holds one JSON object, or one a line.

mod answer;
mod authority;
mod bank;
mod layout;
mod lemma;
mod local;
mod money;
mod network;
mod operator;
mod proof;
mod route;
mod script;
mod session;
mod top;
mod trace;
mod vfirewall;
mod watch;

use answer::{Failure, Outcome};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use vinet_client::lang;
use vinet_session::identity::parse_principal;
use vinet_trusted::addr::{Addr, Prefix, Principal};
use vinet_trusted::policy::PrincipalKind;

/// Programs for edge routers: compile, prove, check, replay over a capture, upload.
#[derive(Parser)]
#[command(name = "vinet", version, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a source text to a program, with a source map beside it
    Compile(Compile),
    /// Print a program as a listing that compiles to the same bytes
    Disasm(Disasm),
    /// Bring source texts into their one layout
    Fmt(Fmt),
    /// Print what has to be shown of a program
    Obligations(Obligations),
    /// Prove that a program keeps to a policy
    Prove(Prove),
    /// Print a proof in readable steps, tied to the lines of the source
    Explain(Explain),
    /// Check a program with its proof, as a router does
    Check(Check),
    /// Run a program over the packets of a capture
    Replay(Replay),
    /// Block senders at a router: write, compile, prove and upload a firewall
    Firewall(Firewall),
    /// Drop what contains words at a router: write, compile, prove and upload a spam filter
    Spam(Spam),
    /// Receive one copy of what a sender sends to many: write, compile, prove and upload a de-duplicator
    Multicast(Multicast),
    /// Keep a worm out: write, compile, prove and upload a quarantine for infected prefixes
    Quarantine(Quarantine),
    /// Tell what happens to one's programs, at a router or as the local vfirewall sees it
    Watch(watch::Watch),
    /// Keep programs of the machine's own applications installed, and take routers' alerts: a daemon
    Vfirewall(vfirewall::Vfirewall),
    /// Upload a program to a router
    Upload(Upload),
    /// The lemmas that proofs cite: list them, and add one's own at a router
    Lemma {
        #[command(subcommand)]
        command: Lemma,
    },
    /// List one's own programs at a router
    List(Router),
    /// Show one program at a router, with its counters
    Show(Instance),
    /// End a program at a router before its time
    Withdraw(Instance),
    /// Fetch a router's signed policy
    Policy(Policy),
    /// Watch a running router: cores, ports, drops, classes, capacity, the busiest programs; for its operator
    Top(Top),
    /// Watch packets go through a running router, with what became of each and by which programs; for its operator
    Trace(Trace),
    /// Tell which programs act on packets from one address to another at a router, and what they did; for its operator
    Why(Why),
    /// Ask a router what a program costs there, and have it fix the price for a while
    Quote(Quote),
    /// Let a program's lifetime at a router begin anew
    Renew(Renew),
    /// Give a bank's credit to one's account at a router
    Deposit {
        /// The file of the credit
        credit: PathBuf,
        #[command(flatten)]
        router: Router,
    },
    /// Tell what one's account at a router has
    Balance(Router),
    /// Fetch one's receipts from a router, and check that they are one chain that goes on where it ended last time
    Receipts(Router),
    /// Fetch the directory that a router was given
    Directory {
        /// Where it goes; else ~/.config/vinet/directory
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        router: Router,
    },
    /// Keep a testbed's bank: make it, and issue credits
    Bank {
        #[command(subcommand)]
        command: bank::Bank,
    },
    /// Keep a testbed's authority: make it, and issue identities
    Ca {
        #[command(subcommand)]
        command: Box<Ca>,
    },
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to a folder
    Man {
        /// Where to
        dir: PathBuf,
    },
}

/// A value for a parameter of the program.
#[derive(Args)]
struct Settings {
    /// Give the parameter NAME of the program a VALUE: an address, a prefix, a set in braces, or a string
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = lang::setting)]
    settings: Vec<(String, String)>,
}

#[derive(Args)]
struct As {
    /// The owner: an address (an end user), or an address with its prefix length (an edge router)
    #[arg(long = "as", value_name = "PRINCIPAL", value_parser = parse_principal)]
    principal: Principal,
}

#[derive(Args)]
struct Json {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Compile {
    /// The source text
    source: PathBuf,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    owner: As,
    /// Where the program goes; its source map goes beside it, with `.map` added
    #[arg(short, long, value_name = "P.vnb")]
    output: PathBuf,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Disasm {
    /// The program
    program: PathBuf,
}

#[derive(Args)]
struct Fmt {
    /// Change nothing; exit with 1 and name the files that would be changed
    #[arg(long)]
    check: bool,
    /// The source texts
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Lemmas of the user's own.
#[derive(Args)]
struct LemmaFiles {
    /// A file of lemmas that proofs may cite behind the shipped ones; may be given more than once, and the order counts
    #[arg(long = "lemmas", value_name = "FILE.vpf")]
    files: Vec<PathBuf>,
}

#[derive(Args)]
struct Obligations {
    /// The program
    program: PathBuf,
    /// The policy to prove it for
    #[arg(long, value_name = "POLICY.toml")]
    policy: PathBuf,
    #[command(flatten)]
    owner: As,
    /// A text whose notes of loops and branches count; else those that the prover finds
    #[arg(long, value_name = "FILE.vpf")]
    script: Option<PathBuf>,
    #[command(flatten)]
    lemmas: LemmaFiles,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Explain {
    /// The program; or the proof alone, where the program lies beside it: P.vnb beside P.proof
    #[arg(value_name = "P.vnb|P.proof")]
    file: PathBuf,
    /// The proof
    #[arg(value_name = "P.proof")]
    proof: Option<PathBuf>,
    /// The policy that it is for
    #[arg(long, value_name = "POLICY.toml")]
    policy: PathBuf,
    #[command(flatten)]
    owner: As,
    #[command(flatten)]
    lemmas: LemmaFiles,
}

#[derive(Args)]
struct Prove {
    /// The program
    program: PathBuf,
    /// The policy to prove it for
    #[arg(long, value_name = "POLICY.toml")]
    policy: PathBuf,
    #[command(flatten)]
    owner: As,
    /// A text with proofs of chosen obligations, and with what is said of loops and branches; the prover does the rest.
    /// Where the text has lemmas, the proof is checked with --lemmas and the same file
    #[arg(long, value_name = "FILE.vpf")]
    script: Option<PathBuf>,
    #[command(flatten)]
    lemmas: LemmaFiles,
    /// Search for a proof, or take the certificate of the analysis that a router makes
    #[arg(long, value_enum, default_value = "proof")]
    mode: Mode,
    /// Where the proof goes
    #[arg(short, long, value_name = "P.proof")]
    output: PathBuf,
    #[command(flatten)]
    json: Json,
}

/// Who makes the proof.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The client
    Proof,
    /// The router, by analysing the program itself
    Static,
}

impl Mode {
    const fn text(self) -> &'static str {
        match self {
            Mode::Proof => "proof",
            Mode::Static => "static",
        }
    }
}

#[derive(Args)]
struct Check {
    /// The program
    program: PathBuf,
    /// The proof
    proof: Option<PathBuf>,
    /// The policy to check it against
    #[arg(long, value_name = "POLICY.toml")]
    policy: PathBuf,
    #[command(flatten)]
    owner: As,
    /// Check the given proof, or analyse the program and check what comes out
    #[arg(long, value_enum, default_value = "proof")]
    mode: Mode,
    #[command(flatten)]
    lemmas: LemmaFiles,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Replay {
    /// A source text or a program
    program: PathBuf,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    owner: As,
    /// The capture to run over: pcap or pcapng, of Ethernet
    #[arg(long = "in", value_name = "IN.pcap")]
    input: PathBuf,
    /// Where the packets go that are forwarded
    #[arg(long = "out", value_name = "OUT.pcap")]
    output: PathBuf,
    /// Run the reference interpreter: slow, obvious, and without need of a proof
    #[arg(long, conflicts_with = "policy")]
    reference: bool,
    /// The most packets of a window, for a program that has one; it changes nothing for others
    #[arg(long, value_name = "N", default_value = "32", value_parser = clap::value_parser!(u32).range(1..=65536))]
    window: u32,
    /// The policy to prove the program for, instead of one without ceilings
    #[arg(long, value_name = "POLICY.toml")]
    policy: Option<PathBuf>,
    #[command(flatten)]
    json: Json,
}

/// How to reach a router, and as whom.
#[derive(Args)]
struct Reach {
    /// One's own identity; else $VINET_IDENTITY, else ~/.config/vinet/identity.key
    #[arg(long, value_name = "FILE", env = "VINET_IDENTITY", hide_env = true)]
    identity: Option<PathBuf>,
    /// The authority that certifies routers; else $VINET_AUTHORITY, else ~/.config/vinet/authority.pub
    #[arg(long, value_name = "FILE", env = "VINET_AUTHORITY", hide_env = true)]
    authority: Option<PathBuf>,
    /// Talk only to the router that the authority has certified under this name
    #[arg(long, value_name = "NAME")]
    router_name: Option<String>,
    /// With --router auto: the directory of routers; else $VINET_DIRECTORY, else ~/.config/vinet/directory
    #[arg(long, value_name = "FILE", env = "VINET_DIRECTORY", hide_env = true)]
    directory: Option<PathBuf>,
    /// Carry the session with us, sealed by the router: the next command with this option needs no handshake
    #[arg(long)]
    sealed: bool,
    /// Give up when everything together takes longer
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=3600))]
    timeout: u32,
    /// Tell every step
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Args)]
struct Router {
    /// The router's control port; or auto, for the one that the directory names
    #[arg(long, value_name = "HOST:PORT|auto")]
    router: String,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    json: Json,
}

/// What all programs have that are written for the user.
#[derive(Args)]
struct Template {
    /// How long it runs: 90s, 2m, 12h, 2d, 1w
    #[arg(long, value_name = "TIME", value_parser = lang::lifetime::parse)]
    lifetime: u32,
    /// Print the source text, for editing, and do nothing else
    #[arg(long, conflicts_with = "dry_run")]
    emit: bool,
    /// With --emit: the owner to write it for, where that is not the identity's
    #[arg(long = "as", value_name = "PRINCIPAL", value_parser = parse_principal, requires = "emit")]
    principal: Option<Principal>,
    /// Do everything but the upload, and tell what it would cost
    #[arg(long)]
    dry_run: bool,
    /// The router's control port; or auto, for every router that the directory names for the sources
    #[arg(long, value_name = "HOST:PORT|auto", required_unless_present = "emit")]
    router: Option<String>,
    #[command(flatten)]
    pay: Pay,
    /// The packets a second to be admitted for; else the policy's default
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Firewall {
    /// A sender to block: an address or a prefix; may be given more than once
    #[arg(long = "block", value_name = "ADDR|PREFIX", required = true, value_parser = lang::prefix)]
    blocked: Vec<Prefix>,
    #[command(flatten)]
    template: Template,
}

#[derive(Args)]
struct Spam {
    /// A word to look for; given more than once, all of them have to occur. In double quotes, with the escapes of
    /// the language
    #[arg(long = "word", value_name = "WORD", required = true, value_parser = word)]
    words: Vec<Word>,
    #[command(flatten)]
    template: Template,
}

#[derive(Args)]
struct Multicast {
    /// The sender whose packets to many are received once: one address
    #[arg(long = "from", value_name = "ADDR")]
    sender: std::net::IpAddr,
    #[command(flatten)]
    template: Template,
}

#[derive(Args)]
struct Quarantine {
    /// An infected prefix, or an address; may be given more than once
    #[arg(long = "infected", value_name = "ADDR|PREFIX", required = true, value_parser = lang::prefix)]
    infected: Vec<Prefix>,
    /// A word by which the worm is told; given more than once, any of them is enough. In double quotes, with the escapes
    /// of the language
    #[arg(long = "signature", value_name = "WORD", required_unless_present = "port", value_parser = word)]
    signatures: Vec<Word>,
    /// The port that the worm spreads through, where there is no signature
    #[arg(long, value_name = "PORT", conflicts_with = "signatures")]
    port: Option<u16>,
    /// With --port: the protocol
    #[arg(long, value_enum, default_value = "tcp", requires = "port")]
    protocol: Protocol,
    /// An address of one's own that still gets all of it: a honeypot
    #[arg(long, value_name = "ADDR")]
    spare: Option<std::net::IpAddr>,
    #[command(flatten)]
    template: Template,
}

/// The protocols with ports.
#[derive(Clone, Copy, ValueEnum)]
enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// The bytes of a word; a type of its own, so that clap does not take it for a list of values.
#[derive(Clone)]
struct Word(Vec<u8>);

fn word(text: &str) -> Result<Word, lang::Cause> {
    lang::word(text).map(Word)
}

#[derive(Args)]
struct Upload {
    /// A source text or a program
    program: PathBuf,
    /// Its proof; without it, the program is proven here
    #[arg(conflicts_with = "mode")]
    proof: Option<PathBuf>,
    /// Send the proof as it is: only the router checks it
    #[arg(long, requires = "proof")]
    unchecked: bool,
    #[command(flatten)]
    settings: Settings,
    /// Who makes the proof
    #[arg(long, value_enum)]
    mode: Option<Mode>,
    #[command(flatten)]
    lemmas: LemmaFiles,
    /// Do everything but the upload, and tell what it would cost
    #[arg(long)]
    dry_run: bool,
    /// The packets a second to be admitted for; else the policy's default
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    #[command(flatten)]
    pay: Pay,
    #[command(flatten)]
    router: Router,
}

/// What is offered for a program, and how it is to run.
#[derive(Args)]
struct Pay {
    /// Pay this many credits; else the quote's price, or that of the router's signed tariff
    #[arg(long, value_name = "CREDITS")]
    pay: Option<u64>,
    /// The router's quote that fixes the price, from `vinet quote -o`
    #[arg(long, value_name = "FILE")]
    quote: Option<PathBuf>,
    /// Only count what the program would discard, and discard nothing
    #[arg(long)]
    monitor: bool,
}

#[derive(Args)]
struct Quote {
    /// A source text or a program
    program: PathBuf,
    #[command(flatten)]
    settings: Settings,
    /// Who will make the proof
    #[arg(long, value_enum, default_value = "proof")]
    mode: Mode,
    #[command(flatten)]
    lemmas: LemmaFiles,
    /// The packets a second to be admitted for; else the policy's default
    #[arg(long, value_name = "PPS", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Write the quote to a file, for `vinet upload --quote`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    router: Router,
}

#[derive(Args)]
struct Renew {
    /// The program's number at its router, from the receipt
    instance: u64,
    /// Pay this many credits; else what was paid for it the last time
    #[arg(long, value_name = "CREDITS")]
    pay: Option<u64>,
    #[command(flatten)]
    router: Router,
}

/// How its operator reaches a router.
#[derive(Args)]
struct AdminSocket {
    /// The router's admin socket; else $VINET_SOCKET, else the only one in /run/vinet
    #[arg(long, value_name = "PATH", env = "VINET_SOCKET", hide_env = true)]
    socket: Option<PathBuf>,
}

#[derive(Args)]
struct Top {
    /// Print one frame as text
    #[arg(long)]
    once: bool,
    /// Milliseconds between two looks
    #[arg(long, value_name = "MS", default_value = "1000", value_parser = clap::value_parser!(u32).range(50..=10_000))]
    interval: u32,
    #[command(flatten)]
    socket: AdminSocket,
}

#[derive(Args)]
struct Trace {
    /// Only packets from this address or prefix
    #[arg(long, value_name = "ADDR|PREFIX", value_parser = lang::prefix)]
    from: Option<Prefix>,
    /// Only packets to this address or prefix
    #[arg(long, value_name = "ADDR|PREFIX", value_parser = lang::prefix)]
    to: Option<Prefix>,
    /// Of those, one in so many, by chance
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    one_in: u32,
    /// Stop after so many packets
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The bytes of each packet to keep
    #[arg(long, value_name = "BYTES", default_value = "128", value_parser = clap::value_parser!(u32).range(14..=128))]
    bytes: u32,
    /// Write a pcapng capture, with what became of each packet as its comment
    #[arg(short, long, value_name = "FILE.pcapng", conflicts_with = "json")]
    write: Option<PathBuf>,
    #[command(flatten)]
    socket: AdminSocket,
    /// Print one JSON object for each packet
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Why {
    /// The source
    src: std::net::IpAddr,
    /// The destination
    dst: std::net::IpAddr,
    #[command(flatten)]
    socket: AdminSocket,
    #[command(flatten)]
    json: Json,
}

#[derive(Args)]
struct Instance {
    /// The program's number at its router, from the receipt
    instance: u64,
    #[command(flatten)]
    router: Router,
}

/// The kind of principals that a policy is for.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Owners of one address
    EndUser,
    /// Owners of a prefix
    EdgeRouter,
}

impl From<Kind> for PrincipalKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::EndUser => PrincipalKind::EndUser,
            Kind::EdgeRouter => PrincipalKind::EdgeRouter,
        }
    }
}

#[derive(Args)]
struct Policy {
    /// For whom; else for one's own kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Write it to a file, for `vinet prove` and `vinet check`
    #[arg(short, long, alias = "out", value_name = "POLICY.toml")]
    output: Option<PathBuf>,
    #[command(flatten)]
    router: Router,
}

#[derive(Subcommand)]
enum Lemma {
    /// Send the lemmas of texts with their proofs to a router, which checks each; later proofs of yours cite them there
    Add(LemmaAdd),
    /// List the shipped lemmas: number, name, id, and what each says
    List {
        #[command(flatten)]
        lemmas: LemmaFiles,
        #[command(flatten)]
        json: Json,
    },
}

#[derive(Args)]
struct LemmaAdd {
    /// The texts; the order counts
    #[arg(required = true, value_name = "FILE.vpf")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    router: Router,
}

#[derive(Subcommand)]
enum Ca {
    /// Make an authority: DIR/authority.key, to be kept secret, and DIR/authority.pub, for everyone
    Init {
        /// Where it goes
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Its name
        #[arg(long, default_value = "testbed")]
        name: String,
    },
    /// Issue the identity of an owner: a new key, and the authority's certificate for it
    Issue {
        /// The authority's folder
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The owner: an address (an end user), or an address with its prefix length (an edge router)
        #[arg(long, value_name = "PRINCIPAL", value_parser = parse_principal)]
        principal: Principal,
        /// How long it is valid
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = lang::lifetime::parse)]
        valid: u32,
        /// The file to make; it holds the secret key
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Make all of an experiment from one file: the authority, the bank, the signed directory, every identity and credit
    Topology {
        /// The routers and owners
        file: PathBuf,
        /// The folder to make
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Revoke keys: sign a newer list of all that were ever revoked
    Revoke {
        /// The authority's folder
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The list: read where it is there, and written anew; else DIR/revoked
        #[arg(long, value_name = "FILE")]
        list: Option<PathBuf>,
        /// A public key (64 hexadecimal digits), or the file of an identity
        #[arg(value_name = "KEY|FILE")]
        keys: Vec<String>,
        /// Bring the list to this router, as the owner of --identity; may be given more than once
        #[arg(long = "router", value_name = "HOST:PORT|auto")]
        routers: Vec<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Sign the directory of routers: which controls which sources
    Directory {
        /// The authority's folder
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The routers: the same file as for topology
        file: PathBuf,
        /// Where it goes, in the place of an older one; else DIR/directory
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Issue the identity of a router
    Router {
        /// The authority's folder
        #[arg(long, value_name = "DIR")]
        ca: PathBuf,
        /// The router's name
        #[arg(long)]
        name: String,
        /// An address of its control port; may be given more than once
        #[arg(long = "address", value_name = "ADDR", required = true)]
        addrs: Vec<std::net::IpAddr>,
        /// How long it is valid
        #[arg(long, value_name = "TIME", default_value = "365d", value_parser = lang::lifetime::parse)]
        valid: u32,
        /// The file to make; it holds the secret key
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Reads the arguments, does what they ask, and tells the outcome.
pub(crate) fn run() -> ExitCode {
    let (json, outcome) = dispatch(Cli::parse().command);
    answer::tell(json, outcome)
}

/// Does what is asked; the flag says whether answers are JSON.
fn dispatch(command: Command) -> (bool, Outcome) {
    match command {
        Command::Compile(args) => (args.json.json, local::compile(&args)),
        Command::Disasm(args) => (false, local::disasm(&args)),
        Command::Fmt(args) => (false, layout::fmt(&args)),
        Command::Obligations(args) => (args.json.json, proof::obligations(&args)),
        Command::Prove(args) => (args.json.json, proof::prove(&args)),
        Command::Explain(args) => (false, proof::explain(&args)),
        Command::Check(args) => (args.json.json, local::check(&args)),
        Command::Replay(args) => (args.json.json, local::replay(&args)),
        Command::Firewall(args) => (args.template.json.json, network::firewall(args)),
        Command::Spam(args) => (args.template.json.json, network::spam(args)),
        Command::Multicast(args) => (args.template.json.json, network::multicast(args)),
        Command::Quarantine(args) => (args.template.json.json, network::quarantine(args)),
        Command::Watch(args) => (args.json.json, watch::watch(&args)),
        Command::Vfirewall(args) => (args.json.json, vfirewall::run(&args)),
        Command::Lemma { command: Lemma::Add(args) } => (args.router.json.json, network::lemma_add(&args)),
        Command::Lemma { command: Lemma::List { lemmas, json } } => (json.json, lemma::list(&lemmas, json.json)),
        Command::Upload(args) => (args.router.json.json, network::upload(&args)),
        Command::List(args) => (args.json.json, network::list(&args)),
        Command::Show(args) => (args.router.json.json, network::show(&args)),
        Command::Withdraw(args) => (args.router.json.json, network::withdraw(&args)),
        Command::Policy(args) => (args.router.json.json, network::policy(&args)),
        Command::Top(args) => (false, top::top(&args)),
        Command::Trace(args) => (false, trace::trace(&args)),
        // Its JSON is told whether it is a yes or a no.
        Command::Why(args) => (false, operator::why(&args)),
        Command::Quote(args) => (args.router.json.json, money::quote(&args)),
        Command::Renew(args) => (args.router.json.json, money::renew(&args)),
        Command::Deposit { credit, router } => (router.json.json, money::deposit(&credit, &router)),
        Command::Balance(args) => (args.json.json, money::balance(&args)),
        Command::Receipts(args) => (args.json.json, money::receipts(&args)),
        Command::Directory { output, router } => (router.json.json, route::fetch(output, &router)),
        Command::Bank { command } => (false, bank::run(command)),
        Command::Ca { command } => (false, ca(*command)),
        Command::Completions { shell } => (false, completions(shell)),
        Command::Man { dir } => (false, man(&dir)),
    }
}

fn ca(command: Ca) -> Outcome {
    match command {
        Ca::Init { out, name } => authority::init(&out, &name),
        Ca::Issue { ca, principal, valid, out } => authority::issue(&ca, principal, valid, &out),
        Ca::Topology { file, out } => authority::topology(&file, &out),
        Ca::Revoke { ca, list, keys, routers, reach } => {
            authority::revoke(&ca, list.as_deref(), &keys, &routers, &reach)
        }
        Ca::Directory { ca, file, out } => authority::directory(&ca, &file, out.as_deref()),
        Ca::Router { ca, name, addrs, valid, out } => {
            let addrs = addrs.into_iter().map(Addr::from).collect();
            authority::router(&ca, name, addrs, valid, &out)
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vinet", &mut text);
    answer::print_bytes(&text)
}

fn man(dir: &std::path::Path) -> Outcome {
    let failed = |error: std::io::Error| Failure::Unusable(format!("cannot write to {}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
