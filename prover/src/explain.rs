//! A certificate in readable steps, tied to the lines of the source text.
//!
//! It reads the bytes as the checker does and applies the kernel's own rules, so each step's formula is what the
//! checker makes of it. What it tells of a certificate that the checker rejects ends at the step that does not follow.

use crate::library;
use crate::script::read::{Certificate, Read};
use crate::script::rules::{self, Arg};
use crate::script::{Names, names_at, print, texts};
use core::fmt;
use std::fmt::Write;
use vinet_trusted::addr::Principal;
use vinet_trusted::lemma::LemmaStore;
use vinet_trusted::logic::{Kernel, Theorem};
use vinet_trusted::policy::Policy;
use vinet_trusted::program::{Program, ProgramError};
use vinet_trusted::proof::{ProofFault, STACK_MAX, rule};
use vinet_trusted::term::{Op, Terms};
use vinet_trusted::walk::{self, BranchNote, Guide, LoopNote, Obligation, Site, WalkFault};

/// Why a certificate is not explained, or not to its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExplainError {
    /// The bytes are no program.
    Program(ProgramError),
    /// The walk over the program ends early, whatever the certificate; why, in words.
    Walk(String),
    /// A step does not follow.
    Step {
        /// What was explained before it.
        so_far: String,
        /// The position in the certificate, in bytes.
        at: usize,
        /// Why.
        fault: ProofFault,
    },
}

impl std::error::Error for ExplainError {}

impl fmt::Display for ExplainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExplainError::Program(error) => write!(f, "not a program: {error}"),
            ExplainError::Walk(why) => f.write_str(why),
            ExplainError::Step { at, fault, .. } => write!(f, "at byte {at} of the proof {fault}"),
        }
    }
}

/// The widest that a formula is before its reason moves to the next column.
const COLUMN_MAX: usize = 64;

/// `proof` of `program` in readable steps. `line` tells the line of the source text that an instruction comes from.
///
/// # Errors
/// [`ExplainError`].
pub fn proof(
    program: &[u8],
    proof: &[u8],
    owner: &Principal,
    policy: &Policy,
    lemmas: &LemmaStore,
    line: &dyn Fn(usize) -> Option<usize>,
) -> Result<String, ExplainError> {
    let program = Program::decode(program).map_err(ExplainError::Program)?;
    let mut kernel = Kernel::new(Terms::new(usize::MAX), lemmas);
    let mut teller = Teller { certificate: Certificate::new(proof), line, out: String::new(), number: 0 };
    let walked = walk::walk(&program, owner, policy, &mut kernel, &mut teller);
    let broken =
        |teller: Teller<'_>, fault| ExplainError::Step { at: teller.certificate.position(), so_far: teller.out, fault };
    match walked {
        Err(WalkFault::Guide(fault)) => Err(broken(teller, fault)),
        Err(WalkFault::Unset(_, name)) => Err(ExplainError::Walk(format!("{name} is used, which this owner has not"))),
        Err(WalkFault::CostOverflow) => Err(ExplainError::Walk("the cost does not fit into 64 bits".into())),
        Err(WalkFault::Term(fault)) => Err(ExplainError::Walk(format!(
            "the program's facts cannot be written down: {}",
            rules::term_fault_words(fault)
        ))),
        Err(WalkFault::CostOfWindow) => {
            Err(ExplainError::Walk("a cost is said of a program that looks at several packets".into()))
        }
        Ok(_) if !teller.certificate.is_done() => Err(broken(teller, ProofFault::Trailing)),
        Ok(outcome) => {
            let mut out = teller.out;
            let _ = writeln!(out, "complexity: {} cycles per packet", outcome.complexity);
            for (instr, turns) in outcome.turns {
                let _ = writeln!(out, "the loop at instruction {instr} has {turns} turns at most");
            }
            Ok(out)
        }
    }
}

/// The guide that reads a certificate and tells what it reads.
struct Teller<'a> {
    certificate: Certificate<'a>,
    line: &'a dyn Fn(usize) -> Option<usize>,
    out: String,
    number: usize,
}

impl Teller<'_> {
    fn place(&self, instr: usize) -> String {
        match (self.line)(instr) {
            Some(line) => format!("line {line} (instruction {instr})"),
            None => format!("instruction {instr}"),
        }
    }

    // Writing to a string does not fail.
    fn tell(&mut self, line: fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{line}");
    }
}

/// A formula and why it holds, in two columns.
fn columns(number: &str, formula: &str, reason: &str) -> String {
    format!("  {number:>4} {formula:<COLUMN_MAX$}  {reason}")
}

fn join(numbers: &[usize]) -> String {
    let words: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    words.join(", ")
}

impl Guide for Teller<'_> {
    type Fault = ProofFault;

    fn program(&mut self, _: &mut Kernel<'_>) -> Result<Option<u64>, ProofFault> {
        let cost = self.certificate.program()?;
        if let Some(cost) = cost {
            self.tell(format_args!("declared: the body costs {cost} cycles per packet at most\n"));
        }
        Ok(cost)
    }

    fn branch(&mut self, _: &mut Kernel<'_>, site: &Site<'_>) -> Result<BranchNote, ProofFault> {
        let note = self.certificate.branch()?;
        let place = self.place(site.instr);
        match note {
            BranchNote::Live => {}
            BranchNote::ThenDead => self.tell(format_args!("{place}, declared: the first block is never run\n")),
            BranchNote::ElseDead => self.tell(format_args!("{place}, declared: the second block is never run\n")),
        }
        Ok(note)
    }

    fn turn(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>) -> Result<LoopNote, ProofFault> {
        let said = self.certificate.turn(kernel)?;
        let place = self.place(site.instr);
        let names = Names::of_program();
        if let Some(invariant) = said.invariant {
            let text = print(&kernel.terms, invariant, &names);
            self.tell(format_args!("{place}, declared of the loop: always {text}"));
        }
        if let Some((variant, most)) = said.variant {
            let text = print(&kernel.terms, variant, &names);
            self.tell(format_args!("{place}, declared of the loop: {text} falls from {most} at most"));
        }
        if let Some(cost) = said.cost {
            self.tell(format_args!("{place}, declared of the loop: a turn costs {cost} cycles at most"));
        }
        if said != LoopNote::default() {
            self.tell(format_args!(""));
        }
        Ok(said)
    }

    fn show(&mut self, kernel: &mut Kernel<'_>, site: &Site<'_>, obligation: &Obligation) -> Result<(), ProofFault> {
        let Obligation { instr, duty, member, goal } = *obligation;
        let mut names = names_at(&kernel.terms, site);
        let (given, facts) = texts(kernel, &names, obligation);
        let heading = format!("obligation {}, {}: {duty}", self.number, self.place(instr));
        self.tell(format_args!("{heading}"));
        given.iter().for_each(|claim| self.tell(format_args!("  given {}: {}", claim.name, claim.says)));
        facts.iter().for_each(|fact| self.tell(format_args!("  where {fact}")));
        let goal_text = print(&kernel.terms, goal, &names);
        self.tell(format_args!("  to show: {goal_text}"));
        kernel.begin(member);
        // Each theorem on the stack, with the number of the line that tells it.
        let mut stack: Vec<(Theorem, usize)> = Vec::new();
        let mut line = 0;
        let first_own = 1 + kernel.path_len();
        let mut assumed = 0;
        loop {
            match self.certificate.step(kernel, goal)? {
                Read::Done => {
                    let (theorem, _) = stack.pop().ok_or(ProofFault::StackEmpty)?;
                    if !stack.is_empty() || !kernel.finish(theorem, goal) {
                        return Err(ProofFault::NotTheGoal);
                    }
                    self.number += 1;
                    self.tell(format_args!(""));
                    return Ok(());
                }
                Read::Assume(formula) => {
                    kernel.assume(formula)?;
                    assumed += 1;
                    let text = format!("assume {}", print(&kernel.terms, formula, &names));
                    self.tell(format_args!("{}", columns("", &text, &format!("assumption {assumed}"))));
                }
                Read::Pick(id) => {
                    let sort = names.sort(kernel.terms.sort(id));
                    let name = print(&kernel.terms, id, &names);
                    // A name of its own, so that it is not taken for a variable's value.
                    names.constants.insert(kernel.terms.get(id).args[0], name.clone());
                    self.tell(format_args!("{}", columns("", &format!("pick any {name} : {sort}"), "")));
                }
                Read::Copy(below) => {
                    let at = stack.len().checked_sub(below.saturating_add(1)).ok_or(ProofFault::StackEmpty)?;
                    stack.push(stack[at]);
                }
                Read::Rule { byte, premises, args } => {
                    let at = stack.len().checked_sub(premises).ok_or(ProofFault::StackEmpty)?;
                    let taken = stack.split_off(at);
                    let theorems: Vec<Theorem> = taken.iter().map(|(theorem, _)| *theorem).collect();
                    let numbers: Vec<usize> = taken.iter().map(|(_, line)| *line).collect();
                    let theorem = Certificate::apply(kernel, byte, &theorems, &args)?;
                    line += 1;
                    let says = print(&kernel.terms, theorem.conclusion(), &names);
                    let reason = reason(kernel, &names, (byte, &args), &numbers, first_own);
                    self.tell(format_args!("{}", columns(&format!("{line}."), &says, &reason)));
                    if stack.len() == STACK_MAX {
                        return Err(ProofFault::StackFull);
                    }
                    stack.push((theorem, line));
                }
            }
        }
    }
}

/// Why a step holds.
fn reason(kernel: &Kernel<'_>, names: &Names, (byte, args): (u8, &[Arg]), of: &[usize], first_own: usize) -> String {
    let number = match args.first() {
        Some(Arg::Number(n) | Arg::Claim(n) | Arg::Constant(n)) => *n as usize,
        _ => 0,
    };
    let of_lines = if of.is_empty() { String::new() } else { format!(" of {}", join(of)) };
    let with = |args: &[Arg]| {
        let terms = args.iter().filter_map(|arg| match arg {
            Arg::Node(id) if kernel.terms.get(*id).op != Op::Forall => Some(print(&kernel.terms, *id, names)),
            _ => None,
        });
        let terms: Vec<String> = terms.collect();
        if terms.is_empty() { String::new() } else { format!(" with {}", terms.join(", ")) }
    };
    match byte {
        rule::CLAIM if number == 0 => "given: the member".into(),
        rule::CLAIM if number < first_own => format!("given {number}"),
        rule::CLAIM => format!("assumption {}", number + 1 - first_own),
        rule::DISCHARGE => format!("by discharge of assumption {}, {}", number + 1 - first_own, join(of)),
        rule::CITE => format!("shown as obligation {number}{of_lines}"),
        rule::LEMMA => {
            // The store's lemmas have names where they are the library's.
            let id = kernel.lemmas().id(number);
            let shipped = library::library();
            let name = id.filter(|id| shipped.id(number) == Some(id)).and_then(|_| library::names().name(number));
            let name = name.map_or_else(|| format!("lemma {number}"), |name| format!("lemma {name}"));
            format!("by {name}{of_lines}{}", with(args))
        }
        rule::LINEAR => {
            let parts = of.iter().zip(args).map(|(line, arg)| match arg {
                Arg::Times(1) => line.to_string(),
                Arg::Times(times) => format!("{times} x {line}"),
                _ => String::new(),
            });
            format!("by the sum of {}", parts.collect::<Vec<_>>().join(", "))
        }
        rule::FACT => "what the program says of it".into(),
        rule::SPECIALISE => format!("by specialise{of_lines}{}", with(args)),
        _ => format!("by {}{of_lines}", rules::name_of(byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_lines_read_well() {
        assert_eq!(join(&[3, 4]), "3, 4");
        assert!(columns("7.", "dst(p) in {192.0.2.1}", "by left of 6").contains("7. dst(p) in {192.0.2.1}"));
    }
}
