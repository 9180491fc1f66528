//! The commands of a testbed, whole: over memory without any right, over DPDK's rings and two processes where there is root, and
//! what they say when something is wrong.

use serde_json::Value;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a command may take.
const TIME_MAX: Duration = Duration::from_secs(60);

fn perf(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vinet-perf"));
    command.args(words.split_whitespace());
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("perf/ lies in the workspace"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end, or fails.
fn finish(mut command: Command) -> Output {
    let mut child = command.spawn().expect("the binary runs");
    let mut pipes = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let readers = std::thread::spawn(move || {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let reader = std::thread::spawn(move || {
            pipes.1.read_to_end(&mut stderr).expect("standard error");
            stderr
        });
        pipes.0.read_to_end(&mut stdout).expect("standard output");
        (stdout, reader.join().expect("the reader"))
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if began.elapsed() > TIME_MAX {
            let _ = child.kill();
            panic!("it took more than {TIME_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (stdout, stderr) = readers.join().expect("the readers");
    Output { status, stdout, stderr }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run_json(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("run.json")).expect("run.json");
    serde_json::from_str(&text).expect("JSON")
}

/// Runs and gives the results of the run's folder, after checking that all files are there.
fn recorded(words: &str, files: &[&str]) -> Value {
    let dir = tempfile::tempdir().expect("a folder");
    let attempt = |number: u32| {
        let out = dir.path().join(number.to_string());
        let mut command = perf(words);
        command.args(["--json", "--out"]).arg(&out);
        (finish(command), out)
    };
    // Where others use the machine too, the generator may be kept from its core at the end of a trial, which is then void.
    let is_void = |output: &Output| output.status.code() == Some(1) && text(&output.stderr).contains("is void");
    let tries = (0..10).map(attempt);
    let (output, out) = tries.into_iter().find(|(output, _)| !is_void(output)).expect("a run that is not void");
    assert!(output.status.success(), "{words}: {}\n{}", text(&output.stderr), text(&output.stdout));
    let run = run_json(&out);
    assert_eq!(run["state"], "complete", "{run}");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(printed, run["results"]);
    for file in files {
        let len = std::fs::metadata(out.join(file)).unwrap_or_else(|e| panic!("{file}: {e}")).len();
        assert!(len > 0, "{file} is empty");
    }
    let samples = std::fs::read_to_string(out.join("samples.jsonl")).expect("samples");
    assert!(samples.lines().count() > 0);
    samples.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).expect("a JSON line")));
    printed
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn the_router_in_memory_forwards_what_is_generated_and_nothing_is_lost() {
    let words = "generate --rate 2500pps --seconds 1 --family both --mix zipf:1.1 --flows 200 --seed 3";
    let results = recorded(words, &["latency.hlog", "lateness.hlog", "latency.svg", "rate.svg"]);
    assert_eq!((&results["intended"], &results["sent"]), (&2500.into(), &2500.into()));
    assert_eq!((&results["lost"], &results["duplicates"], &results["reordered"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(results["latency"]["count"], 2500);
    let notes = results["notes"].to_string();
    assert!(notes.contains("not the router's rate"), "{notes}");
    // The router's own counters agree to the packet.
    assert_eq!(results["under"]["ports"][0]["received"], 2500);
    assert_eq!(results["under"]["ports"][1]["sent"], 2500);
    assert_eq!((&results["under"]["difference"], &results["under"]["drops"]), (&0.into(), &serde_json::json!({})));
}

#[test]
fn programs_of_the_router_under_test_drop_what_they_are_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let mbox = dir.path().join("mbox");
    std::fs::write(&mbox, "From x\nDear all, nothing to see here. ".repeat(50)).expect("a file");
    // One flow, to 198.18.0.1, the first owner; a quarter of its packets have the word that it does not want.
    let words = format!(
        "generate --rate 4kpps --seconds 0.5 --flows 1 --sizes 512 --payload {} --plant lottery=0.25 --programs 1 --kind spam1",
        mbox.display()
    );
    let results = recorded(&words, &["rate.svg"]);
    let lost = results["lost"].as_u64().expect("a count");
    assert!((400..600).contains(&lost), "{lost} of 2000");
    let drops = results["under"]["drops"].as_object().expect("reasons");
    assert_eq!(drops.values().filter_map(Value::as_u64).sum::<u64>(), lost, "{drops:?}");
}

#[test]
fn a_search_over_the_router_in_memory_ends_with_bounds_and_latencies() {
    let words = "search --from 100pps --to 20kpps --trial 0.02 --duration-sum 0.06 --width 20 --latency-seconds 0.1 \
                 --trials-max 200";
    let results =
        recorded(words, &["loss.svg", "latency-10.hlog", "latency-50.hlog", "latency-90.hlog", "latency.svg"]);
    let goals = results["goals"].as_array().expect("goals");
    assert_eq!(goals.len(), 2);
    for goal in goals {
        // On a machine that others use the bounds may lie anywhere; that they were found is what counts.
        assert!(goal["end"] == "Reached" || goal["end"] == "MaxLoad", "{goal}");
        assert!(goal["lower_pps"].as_u64().expect("a lower bound") >= 100);
    }
    assert_eq!(results["latency"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_capture_is_replayed_with_its_own_times_and_with_stamps() {
    let dir = tempfile::tempdir().expect("a folder");
    let pcap = dir.path().join("a.pcap");
    // One packet to 198.18.0.1 every millisecond, as the capture has it.
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    let udp = |payload: &[u8]| {
        let builder =
            etherparse::PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 0, 0, 1], [198, 18, 0, 1], 64).udp(5, 9);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a frame");
        frame
    };
    for number in 0..100u32 {
        let frame = udp(&[7; 100]);
        for word in [1, number * 1_000, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    std::fs::write(&pcap, bytes).expect("a file");
    let plain = recorded(&format!("generate --pcap {} --seconds 0.3", pcap.display()), &["rate.svg"]);
    assert_eq!((&plain["intended"], &plain["lost"], &plain["latency"]), (&300.into(), &0.into(), &Value::Null));
    let words = format!("generate --pcap {} --seconds 0.3 --speed 2 --stamp", pcap.display());
    let stamped = recorded(&words, &["latency.hlog"]);
    assert_eq!((&stamped["intended"], &stamped["lost"]), (&600.into(), &0.into()));
    assert_eq!(stamped["latency"]["count"], 600);
}

#[test]
fn an_interrupt_keeps_what_was_measured_and_marks_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("run");
    let mut command = perf("generate --rate 1kpps --seconds 600 --under wire --out");
    command.arg(&out);
    let child = command.spawn().expect("the binary runs");
    let began = Instant::now();
    while !out.join("run.json").exists() {
        assert!(began.elapsed() < TIME_MAX, "it does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("a signal");
    let output = child.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let run = run_json(&out);
    assert_eq!((&run["state"], &run["incomplete_because"]), (&"incomplete".into(), &"it was interrupted".into()));
    assert!(run["results"]["received"].as_u64().expect("a count") > 0);
    assert!(out.join("latency.hlog").exists() && out.join("rate.svg").exists());
}

#[test]
fn a_load_that_the_generator_cannot_offer_is_void() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("run");
    let mut command = perf("generate --rate 300Mpps --seconds 0.05 --under wire --sizes 64 --out");
    command.arg(&out);
    let output = finish(command);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("is void") && text(&output.stderr).contains("less than intended"));
    assert!(run_json(&out)["results"]["void"].is_string());
}

#[test]
fn wrong_arguments_end_with_status_2_and_say_what_is_right() {
    for (words, expected) in [
        ("generate", "--rate"),
        ("generate --rate 10", "250kpps"),
        ("generate --rate 80%", "--line-mbps"),
        ("generate --rate 1kpps --seconds 0", "--seconds"),
        ("generate --rate 1kpps --sizes 10", "64 to"),
        ("generate --rate 1kpps --sizes 64 --transport tcp", "76 at least"),
        ("generate --rate 1kpps --sizes 9000", "MTU"),
        ("generate --rate 1kpps --flows 0", "--flows"),
        ("generate --rate 1kpps --mix heavy", "zipf"),
        ("generate --rate 1kpps --plant x", "WORD=SHARE"),
        ("generate --rate 1kpps --dst 2001:db8::/32", "IPv4 prefix"),
        ("generate --rate 1kpps --payload /nowhere", "/nowhere"),
        ("generate --pcap /nowhere", "/nowhere"),
        ("generate --rate 1kpps --under external", "--send"),
        ("generate --rate 1kpps --under wire --send x", "--under external"),
        ("generate --rate 1kpps --under child --joint vhost --no-huge", "memif"),
        ("generate --rate 1kpps --programs 1 --policy /nowhere", "/nowhere"),
        ("generate --rate 1kpps --out /proc/nowhere", "/proc/nowhere"),
        ("search --width 0", "width"),
        ("search --from 2Mpps --to 1Mpps", "no range"),
        ("search --to 10Gbit/s", "packets a second"),
        ("search --latency-at 0", "--latency-at"),
        ("capacity --rounds 0", "--rounds"),
        ("capacity --numbers 2000000", "bound of the flow table"),
        ("capacity --kind nonsense", "firewall"),
        ("capacity --size 10", "64 to 1518"),
    ] {
        let output = finish(perf(words));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {stderr}");
        assert!(stderr.contains(expected), "{words}: {stderr}");
        assert!(!stderr.contains("panicked"), "{words}: {stderr}");
    }
}

#[test]
fn without_root_or_memory_the_reason_is_told() {
    let mut command = perf("generate --rate 1kpps --seconds 0.1 --under child --memory-mib 1000000");
    if is_root() {
        let output = finish(command);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains("--no-huge"), "{}", text(&output.stderr));
        // As nobody, in a folder that nobody may use; the binary itself may lie where nobody can read.
        let dir = tempfile::tempdir().expect("a folder");
        let copy = dir.path().join("vinet-perf");
        std::fs::copy(env!("CARGO_BIN_EXE_vinet-perf"), &copy).expect("a copy");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("permissions");
        command = Command::new(copy);
        command.args("generate --rate 1kpps --seconds 0.1 --send net_af_packet0,iface=lo --no-huge".split(' '));
        command.current_dir("/").uid(65_534).gid(65_534);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = finish(command);
        let stderr = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{stderr}");
        assert!(stderr.contains("vinet-perf:") && !stderr.contains("panicked"), "{stderr}");
    } else {
        let output = finish(command);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{}", text(&output.stderr));
    }
}

#[test]
fn two_processes_over_memif_and_vhost_and_one_over_a_ring_lose_nothing_at_a_low_rate() {
    if !is_root() {
        eprintln!(
            "skipped: two_processes_over_memif_and_vhost_and_one_over_a_ring_lose_nothing_at_a_low_rate: DPDK needs root"
        );
        return;
    }
    let words = "generate --rate 2kpps --seconds 0.5 --sizes 64 --under child --no-huge --memory-mib 64";
    let results = recorded(words, &["latency.hlog"]);
    assert_eq!((&results["sent"], &results["lost"]), (&1000.into(), &0.into()), "{results}");
    assert_eq!(results["under"]["ports"][1]["sent"], 1000);
    if vinet_fastpath::eal::free_hugepages_mib() >= 192 {
        let words = "generate --rate 2kpps --seconds 0.5 --sizes 64 --under child --joint vhost --memory-mib 64";
        let results = recorded(words, &["latency.hlog"]);
        assert_eq!((&results["sent"], &results["lost"]), (&1000.into(), &0.into()), "{results}");
    } else {
        eprintln!("not tested over vhost: fewer than 192 MiB of hugepages are free");
    }
    let words = "generate --rate 2kpps --seconds 0.5 --send net_ring0 --no-huge --memory-mib 64";
    let results = recorded(words, &["latency.hlog"]);
    assert_eq!((&results["sent"], &results["lost"]), (&1000.into(), &0.into()), "{results}");
}

#[test]
fn capacity_runs_over_numbers_and_kinds() {
    if !is_root() {
        eprintln!("skipped: capacity_runs_over_numbers_and_kinds: DPDK needs root");
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let words = format!(
        "capacity --kind firewall,firewall-matching --numbers 100 --rounds 1 --seconds 1 --core {} --no-huge",
        cores - 1
    );
    let results = recorded(&words, &["capacity.svg"]);
    for kind in results.as_array().expect("kinds") {
        let curve = kind["median_pps"].as_array().expect("a curve");
        assert_eq!(curve.len(), 2, "{kind}");
        assert!(curve.iter().all(|point| point[1].as_f64().is_some_and(|pps| pps > 1000.0)), "{kind}");
    }
}
