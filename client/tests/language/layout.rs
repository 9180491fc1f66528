//! The one layout of source texts.

use super::{FIREWALL, MULTICAST, SPAM, router, settings};
use vinet_client::lang::{compile, format};

fn formatted(text: &str) -> String {
    let once = format("f.vnp", text).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    let twice = format("f.vnp", &once).unwrap_or_else(|errors| panic!("{errors}\n{once}"));
    assert_eq!(once, twice, "formatting what is formatted changes nothing");
    once
}

const UNTIDY: &str = "# head\n\n\n\n   lifetime=2 days;window = 8 packets # eight
// before
A=group_by_destination( AllPackets ,this_ip) ;n=- 1;
   n = n-1;S=score(A,{\"a\" 1,fold(\"b\")  -2});
if n<3 # why
and not(n=1)then begin # then
DISCARD(A) ;
# inside
end;else if n = 2 then DISCARD(A);
else begin end
while n>0 variant (n) invariant n>=0 do n=n-1; # last
P(i)=GROUP_BY_SOURCE(A);foreach i do   foreach i as j do begin DISCARD(P(j));end

# tail";

const TIDY: &str = "# head

LIFETIME = 2 days;
WINDOW = 8 packets  # eight
// before
A = GROUP_BY_DESTINATION(AllPackets, THIS_IP);
n = -1;
n = n - 1;
S = SCORE(A, {\"a\" 1, FOLD(\"b\") -2});
if n < 3  # why
and not (n = 1) then begin  # then
  DISCARD(A);
  # inside
end;
else if n = 2 then
  DISCARD(A);
else begin
end
while n > 0 variant (n) invariant n >= 0 do
  n = n - 1;  # last
P(i) = GROUP_BY_SOURCE(A);
foreach i do
  foreach i as j do begin
    DISCARD(P(j));
  end

# tail
";

#[test]
fn an_untidy_text_gets_the_one_layout() {
    assert_eq!(formatted(UNTIDY), TIDY);
    assert_eq!(formatted("LIFETIME = 1 h"), "LIFETIME = 1 h\n");
}

#[test]
fn a_formatted_text_compiles_to_the_same_bytes() {
    for text in [FIREWALL, SPAM, MULTICAST, UNTIDY] {
        let mut set = settings(&["SrcIP=10.0.0.1", "Word1=a", "Word2=b", "BroadcastIP=10.0.0.2"]);
        set.retain(|(name, _)| text.contains(name));
        let bytes = |text: &str| compile("f", text, &set, &router()).expect("compiles").program.encode();
        assert_eq!(bytes(text), bytes(&formatted(text)));
    }
}

#[test]
fn long_lines_are_broken_and_breaks_are_kept() {
    let sets: Vec<_> = (0..40).map(|i| format!("10.0.0.{i}")).collect();
    let tests: Vec<_> = (0..9).map(|i| format!("CONTAINS_STRING(A, \"word {i}\")")).collect();
    let text = format!(
        "LIFETIME = 1 h\nA = GROUP_BY_SOURCE(AllPackets, {{{}}});\nif {} then DISCARD(A);\nif EMPTY(A)\nand EMPTY(A) then DISCARD(A);",
        sets.join(","),
        tests.join(" or ")
    );
    let tidy = formatted(&text);
    assert!(tidy.lines().all(|line| line.len() <= 120), "{tidy}");
    assert!(tidy.contains("\nor CONTAINS_STRING") && tidy.contains("if EMPTY(A)\nand EMPTY(A) then\n"), "{tidy}");
}

#[test]
fn comments_are_kept_wherever_they_stand() {
    let tokens = "LIFETIME = 1 h ; A = SELECT ( AllPackets , length > 5 and not syn ) ; if EMPTY ( A ) or EMPTY ( A ) \
                  then begin DISCARD ( A ) ; end else if EMPTY ( A ) then DISCARD ( A ) ; else begin end";
    let words: Vec<&str> = tokens.split(' ').filter(|word| !word.is_empty()).collect();
    let plain = compile("c", tokens, &[], &router()).expect("compiles").program;
    for at in 0..=words.len() {
        for comment in ["# note\n", "\n# note\n", "\n\n// note\n"] {
            let text = format!("{} {comment}{}", words[..at].join(" "), words[at..].join(" "));
            // A comment in the clause of the LIFETIME ends its line, but not the clause.
            let tidy = formatted(&text);
            assert_eq!(tidy.matches("note").count(), 1, "{tidy}");
            assert_eq!(compile("c", &tidy, &[], &router()).expect("compiles").program, plain, "{tidy}");
        }
    }
}

#[test]
fn a_text_that_does_not_parse_is_told_of() {
    let told = format("f.vnp", "LIFETIME = 1 h\nDISCARD(A)").expect_err("no semicolon").to_string();
    assert_eq!(told, "f.vnp:2:11: expected `;` behind DISCARD(…)");
}
