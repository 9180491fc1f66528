//! The commands that need no router: compile, disasm, check, replay.

use super::answer::{self, Failure, Figures, Outcome, Refusal};
use super::proof::{Task, unset};
use super::script::Lemmas;
use super::{Check, Compile, Disasm, Mode, Replay};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use vinet_client::lang::error::SOURCE_BYTES_MAX;
use vinet_client::lang::source_map::hex;
use vinet_client::lang::{self, SourceMap};
use vinet_client::pcap::Capture;
use vinet_client::replay::{self, Engine};
use vinet_client::{disasm as listing, file};
use vinet_session::policy_file;
use vinet_trusted::addr::Principal;
use vinet_trusted::check;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::{FORMAT_VERSION, PROGRAM_BYTES_MAX, Program, WINDOW_MAX};

/// The most bytes of a capture: it is held in memory, with what is forwarded.
const CAPTURE_BYTES_MAX: u64 = 2 << 30;
/// The most bytes of a proof file; every policy's ceiling is lower.
const PROOF_BYTES_MAX: u64 = 16 << 20;

pub(super) fn compile(args: &Compile) -> Outcome {
    let text = file::text(&args.source, file::read(&args.source, SOURCE_BYTES_MAX as u64)?)?;
    let name = args.source.display().to_string();
    let compiled = lang::compile(&name, &text, &args.settings.settings, &args.owner.principal)?;
    let bytes = compiled.program.encode();
    file::write(&args.output, &bytes)?;
    // Beside a device or a pipe there is no place for a map.
    if args.output.is_file() {
        file::write(&SourceMap::path(&args.output), compiled.map.json().as_bytes())?;
    }
    if args.json.json {
        let instructions = compiled.map.instructions.len();
        let id = hex(&compiled.program.id());
        answer::print_json(&json!({ "program": id, "bytes": bytes.len(), "instructions": instructions }))?;
    }
    Ok(())
}

pub(super) fn disasm(args: &Disasm) -> Outcome {
    let (_, program) = read_program(&args.program)?;
    answer::print_bytes(listing::listing(&program).as_bytes())
}

pub(super) fn check(args: &Check) -> Outcome {
    let program_bytes = file::read(&args.program, PROGRAM_BYTES_MAX as u64 + 1)?;
    let policy = Arc::new(read_policy(&args.policy)?);
    let owner = args.owner.principal;
    // The checker itself decodes the bytes; this program is for the figures and the source lines of a rejection.
    let program = Program::decode(&program_bytes).ok();
    let map = program.as_ref().and_then(|program| SourceMap::beside(&args.program, program));
    let task = program.as_ref().map(|program| Task { program, owner: &owner, policy: &policy, map: map.as_ref() });
    let lemmas = Lemmas::of(&args.lemmas.files)?;
    let figures = |proof_bytes: usize, start: Instant| Figures {
        mode: args.mode.text(),
        complexity: None,
        cost: None,
        proof_bytes,
        check_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
    };
    let proof = match (args.mode, &args.proof) {
        (Mode::Proof, Some(path)) => Some(file::read(path, PROOF_BYTES_MAX)?),
        (Mode::Static, None) => None,
        (Mode::Proof, None) => {
            let text = "a proof is needed: name its file behind the program, or use --mode static";
            return Err(Failure::Unusable(text.to_string()));
        }
        (Mode::Static, Some(path)) => {
            let text = format!("--mode static makes its own proof; {} would not be looked at", path.display());
            return Err(Failure::Unusable(text));
        }
    };
    let start = Instant::now();
    let proof = match (proof, &task) {
        (Some(proof), _) => proof,
        (None, Some(task)) => match task.certificate(Mode::Static, &lemmas.store) {
            Ok(proof) => proof,
            Err(refusal) => return Err(Refusal { figures: Some(figures(0, start)), ..*refusal }.into()),
        },
        // Bytes that are no program have no proof; the checker says why.
        (None, None) => Vec::new(),
    };
    let checked = check::check(&program_bytes, &proof, owner, &policy, &lemmas.store);
    let figures = figures(proof.len(), start);
    let checked = checked.map_err(|reject| {
        let refusal = match &task {
            Some(task) => task.rejected(&reject),
            None => Refusal::new(reject.code(), &reject, None, None),
        };
        Refusal { figures: Some(figures), ..refusal }
    })?;
    let figures = Figures { complexity: Some(checked.complexity()), cost: Some(checked.cost()), ..figures };
    if args.json.json {
        return answer::print_json(&answer::verdict(Some(&figures), None));
    }
    answer::print(&format_args!(
        "accepted: complexity {} cycles per packet, cost {}, proof {} bytes, checked in {} ns",
        checked.complexity(),
        checked.cost(),
        proof.len(),
        figures.check_ns
    ))
}

pub(super) fn replay(args: &Replay) -> Outcome {
    let owner = args.owner.principal;
    let (program, map) = source_or_program(&args.program, &args.settings.settings, &owner)?;
    let bytes = file::read(&args.input, CAPTURE_BYTES_MAX)?;
    let capture =
        Capture::read(&bytes).map_err(|error| Failure::Unusable(format!("{}: {error}", args.input.display())))?;
    // As long as was asked for, and no shorter than the program says itself.
    let window = (args.window.min(u32::from(WINDOW_MAX)) as u16).max(program.window());
    let policy = Arc::new(match &args.policy {
        Some(path) => read_policy(path)?,
        None => replay::builtin_policy(PrincipalKind::of(&owner), window),
    });
    let mut engine = if args.reference {
        Engine::reference(&program, &owner, &policy)
    } else {
        let task = Task { program: &program, owner: &owner, policy: &policy, map: map.as_ref() };
        let refuse = |error: replay::NotRunnable| task.not_runnable(&error);
        let hints = map.as_ref().map_or_else(Vec::new, |map| map.hints(&program));
        let checked = replay::checked(&program, &owner, &policy, &hints).map_err(refuse)?;
        Engine::executor(checked).map_err(refuse)?
    };
    let (out, counts) =
        replay::replay(&capture, &mut engine, args.window as usize).map_err(|name| unset(name, &owner))?;
    file::write(&args.output, &out)?;
    if engine.evictions() > 0 {
        let note = format!("streams were forgotten {} times at the limits of the policy", engine.evictions());
        answer::Steps::new(true).tell(&note);
    }
    if counts.unsent > 0 {
        let note =
            format!("{} times no packet could carry what was to be sent: two families of addresses", counts.unsent);
        answer::Steps::new(true).tell(&note);
    }
    if args.json.json {
        return answer::print_json(&json!({
            "in": counts.packets,
            "forwarded": counts.forwarded,
            "discarded": counts.discarded,
            "generated": counts.generated,
        }));
    }
    answer::print(&format_args!(
        "{} packets in, {} forwarded, {} discarded, {} generated; {} that no program sees, {} cut short by the capture",
        counts.packets, counts.forwarded, counts.discarded, counts.generated, counts.unseen, counts.cut
    ))
}

/// The policy of a file.
pub(super) fn read_policy(path: &Path) -> Result<Policy, Failure> {
    policy_file::load(path).map_err(|error| Failure::Unusable(error.to_string()))
}

/// The bytes and the program of a file.
pub(super) fn read_program(path: &Path) -> Result<(Vec<u8>, Program), Failure> {
    let bytes = file::read(path, PROGRAM_BYTES_MAX as u64)?;
    let program = decode(path, &bytes)?;
    Ok((bytes, program))
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Program, Failure> {
    Program::decode(bytes).map_err(|error| Failure::Unusable(format!("{} is no program: {error}", path.display())))
}

/// The proof of a file.
pub(super) fn read_proof(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(file::read(path, PROOF_BYTES_MAX)?)
}

/// The program of a file that holds source text or bytecode: bytecode is named `.vnb` or starts as no text does.
pub(super) fn source_or_program(
    path: &Path,
    settings: &[(String, String)],
    owner: &Principal,
) -> Result<(Program, Option<SourceMap>), Failure> {
    let bytes = file::read(path, SOURCE_BYTES_MAX as u64)?;
    if path.extension().is_some_and(|extension| extension == "vnb") || bytes.first() == Some(&FORMAT_VERSION) {
        if let Some((name, _)) = settings.first() {
            let text = format!("--set {name}: {} is compiled already and has no parameters", path.display());
            return Err(Failure::Unusable(text));
        }
        let program = decode(path, &bytes)?;
        let map = SourceMap::beside(path, &program);
        return Ok((program, map));
    }
    let text = file::text(path, bytes)?;
    let compiled = lang::compile(&path.display().to_string(), &text, settings, owner)?;
    Ok((compiled.program, Some(compiled.map)))
}
