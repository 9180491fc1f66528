//! Programs, policies and owners that the targets start from.

use std::path::Path;
use std::sync::Arc;

use vinet_client::lang::compile;
use vinet_session::{parse_principal, policy_file};
use vinet_trusted::addr::Principal;
use vinet_trusted::policy::Policy;
use vinet_trusted::program::Program;

/// The paper's two listings, and the other shapes that the language has.
const SOURCES: &[&str] = &[
    "LIFETIME = 2 days\nMyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_IP);\nBadPackets = GROUP_BY_SOURCE(MyPackets,198.51.100.2);\nDISCARD(BadPackets);\n",
    "LIFETIME = 5 days\nMyPackets = GROUP_BY_DESTINATION(AllPackets,THIS_IP);\nSourceIP(i),Packets(i) = GROUP_BY_SOURCE(MyPackets);\nforeach i do\n  if CONTAINS_STRING(Packets(i),\"cheap\")\n  and CONTAINS_STRING(Packets(i),\"pills\") then\n    DISCARD(Packets(i));\n",
    "LIFETIME = 1 hrs\nM = GROUP_BY_DESTINATION(AllPackets,THIS_IP);\nB = GROUP_BY_SOURCE(M,{198.51.100.0/24, 2001:db8::/32});\nif CONTAINS_STRING(B,\"x\") or not CONTAINS_STRING(M,\"y\") then begin DISCARD(B); end else DISCARD(M);\n",
];

/// An owner, from its text.
pub fn owner(text: &str) -> Principal {
    parse_principal(text).expect("the text of a principal")
}

/// The programs of those sources.
pub fn programs(owner: &Principal) -> Vec<Program> {
    let compiled = SOURCES.iter().map(|source| match compile("fuzz.vnp", source, &[], owner) {
        Ok(compiled) => compiled.program,
        Err(errors) => panic!("{errors}"),
    });
    compiled.collect()
}

/// The shipped policy for end users.
pub fn policy() -> Arc<Policy> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy/end-user.toml");
    Arc::new(policy_file::load(&file).unwrap_or_else(|e| panic!("{e}")))
}
