//! The commands that need no router: compile, disasm, prove, check, replay.

use super::answer::{self, Failure, Figures, Outcome, Refusal};
use super::{Check, Compile, Disasm, Mode, Prove, Replay};
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
use vinet_trusted::cost;
use vinet_trusted::policy::{Policy, PrincipalKind};
use vinet_trusted::program::{FORMAT_VERSION, PROGRAM_BYTES_MAX, Program};

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

pub(super) fn prove(args: &Prove) -> Outcome {
    let (_, program) = read_program(&args.program)?;
    let policy = read_policy(&args.policy)?;
    let map = SourceMap::beside(&args.program, &program);
    let proof = vinet_prover::prove(&program, &args.owner.principal, &policy)
        .map_err(|error| Refusal::new(error.code(), &error, error.instr(), map.as_ref()))?;
    file::write(&args.output, &proof)?;
    if args.json.json {
        answer::print_json(&json!({ "program": hex(&program.id()), "proof_bytes": proof.len() }))?;
    }
    Ok(())
}

pub(super) fn check(args: &Check) -> Outcome {
    let program_bytes = file::read(&args.program, PROGRAM_BYTES_MAX as u64 + 1)?;
    let policy = Arc::new(read_policy(&args.policy)?);
    let owner = args.owner.principal;
    // The checker itself decodes the bytes; this program is for the figures and the source lines of a rejection.
    let program = Program::decode(&program_bytes).ok();
    let map = program.as_ref().and_then(|program| SourceMap::beside(&args.program, program));
    let complexity = program.as_ref().and_then(|p| cost::complexity(p, &policy.costs, &policy.limits).ok());
    let cost = complexity.zip(program.as_ref()).and_then(|(c, p)| cost::total(c, p.lifetime_s()).ok());
    let figures = |proof_bytes: usize, start: Instant| Figures {
        mode: args.mode.text(),
        complexity,
        cost,
        proof_bytes,
        check_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
    };
    let refuse = |code: &str, text: &dyn std::fmt::Display, instr: Option<usize>, figures: Figures| {
        Failure::from(Refusal { figures: Some(figures), ..Refusal::new(code, text, instr, map.as_ref()) })
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
    let proof = match (proof, &program) {
        (Some(proof), _) => proof,
        (None, Some(program)) => match vinet_prover::prove(program, &owner, &policy) {
            Ok(proof) => proof,
            Err(error) => return Err(refuse(error.code(), &error, error.instr(), figures(0, start))),
        },
        // Bytes that are no program have no proof; the checker says why.
        (None, None) => Vec::new(),
    };
    let checked = check::check(&program_bytes, &proof, owner, &policy);
    let figures = figures(proof.len(), start);
    let checked = checked.map_err(|reject| refuse(reject.code(), &reject, reject.instr(), figures))?;
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
    let mut engine = if args.reference {
        Engine::reference(&program, &owner)
    } else {
        let policy = match &args.policy {
            Some(path) => read_policy(path)?,
            None => replay::builtin_policy(PrincipalKind::of(&owner)),
        };
        let refuse = |error: replay::NotRunnable| Refusal::new(error.code(), &error, error.instr(), map.as_ref());
        let checked = replay::checked(&program, &owner, &Arc::new(policy)).map_err(refuse)?;
        Engine::executor(checked).map_err(refuse)?
    };
    let (out, counts) = replay::replay(&capture, &mut engine, args.window as usize).map_err(|unset| {
        let name = match unset {
            vinet_trusted::program::Unset::ThisIp => "THIS_IP",
            vinet_trusted::program::Unset::ThisSubnet => "THIS_SUBNET_IP",
        };
        Refusal::new("unset-name", &format_args!("the program uses {name}, which {owner} has not"), None, None)
    })?;
    file::write(&args.output, &out)?;
    if engine.evictions() > 0 {
        let note = format!("streams were forgotten {} times at the limits of the policy", engine.evictions());
        answer::Steps::new(true).tell(&note);
    }
    if args.json.json {
        return answer::print_json(&json!({
            "in": counts.packets,
            "forwarded": counts.forwarded,
            "discarded": counts.discarded,
            "generated": 0,
        }));
    }
    answer::print(&format_args!(
        "{} packets in, {} forwarded, {} discarded, 0 generated; {} that no program sees, {} cut short by the capture",
        counts.packets, counts.forwarded, counts.discarded, counts.unseen, counts.cut
    ))
}

/// The policy of a file.
pub(super) fn read_policy(path: &Path) -> Result<Policy, Failure> {
    policy_file::load(path).map_err(|error| Failure::Unusable(error.to_string()))
}

/// The bytes and the program of a file.
fn read_program(path: &Path) -> Result<(Vec<u8>, Program), Failure> {
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
