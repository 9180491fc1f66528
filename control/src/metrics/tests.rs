use super::http::{CONNECTIONS_MAX, REQUEST_LEN_MAX};
use super::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vinet_fastpath::drop_reason::DropReason;

const PATIENCE: Duration = Duration::from_secs(20);

fn sample() -> Sample {
    let port = |name: &str| PortSample {
        name: name.into(),
        counts: PortCounts { rx_packets: 5, ..PortCounts::default() },
        link: Link { up: true, speed_mbps: Some(10_000) },
        stats: PortStats::default(),
    };
    let worker = |core| WorkerSample { core, turns: 10, turns_empty: 4, busy_ns: 1_500_000_000, stuck: false };
    Sample {
        router: "edge1".into(),
        ports: vec![port("edge"), port("up\"link\\")],
        drops: std::array::from_fn(|i| i as u64),
        totals: Totals::default(),
        unaccounted: 0,
        workers: vec![worker(2), worker(3)],
        classes: vec![("header".into(), ClassCount { programs: 7, cycles_per_second: 100 })],
        cycles: (100, 1000),
        memory: (1, 2),
        table_bytes: 3,
        retired: 4,
        decisions: Decisions::default(),
        checks_pending: 0,
        waiting: vec![("header-0".into(), 3)],
        candidates: 0,
        commits_pending: 0,
        store_failed: false,
        sources_shut_off: 0,
        shut_offs: ShutOffCounts::default(),
        credits: Credits { escrow: 9, ..Credits::default() },
        sessions: (2, 1),
        session_counters: SessionCounters::default(),
        plane: None,
    }
}

/// The lines of a page that are samples: the name with its labels, and the value.
fn series(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (series.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

#[test]
fn a_page_has_every_port_core_reason_and_class() {
    let page = text::encode(sample()).unwrap();
    assert!(page.ends_with("# EOF\n"), "{page}");
    let series = series(&page);
    assert_eq!(series["vinet_port_rx_packets_total{port=\"edge\"}"], 5.0);
    assert_eq!(series["vinet_port_rx_packets_total{port=\"up\\\"link\\\\\"}"], 5.0, "names are escaped");
    assert_eq!(series["vinet_worker_busy_seconds_total{core=\"3\"}"], 1.5);
    assert_eq!(series["vinet_drops_total{reason=\"ttl_expired\"}"], f64::from(DropReason::TtlExpired as u8));
    assert_eq!(series["vinet_programs{class=\"header\"}"], 7.0);
    assert_eq!(series["vinet_port_speed_bits_per_second{port=\"edge\"}"], 1e10);
    assert_eq!(series["vinet_requests_waiting{class=\"header-0\"}"], 3.0);
    assert_eq!(series["vinet_credits{book=\"escrow\"}"], 9.0);
    let drops = series.keys().filter(|name| name.starts_with("vinet_drops_total")).count();
    assert_eq!(drops, DROP_REASONS);
    // A router with a million programs and one with none have the same series.
    let mut busy = sample();
    busy.classes[0].1.programs = 1_000_000;
    let names = |page: &str| self::series(page).into_keys().collect::<Vec<String>>();
    assert_eq!(names(&text::encode(busy).unwrap()), names(&page));
}

#[test]
fn every_metric_of_the_dashboard_is_exported() {
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../configs/grafana/vinet.json")).expect("the dashboard is JSON");
    let mut expressions = Vec::new();
    collect(&dashboard, &mut expressions);
    assert!(expressions.len() > 10, "{expressions:?}");
    let exported: BTreeSet<String> = series(&text::encode(sample()).unwrap())
        .into_keys()
        .map(|series| series.split('{').next().unwrap_or_default().to_owned())
        .collect();
    for expression in expressions {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: Vec<&str> = words.filter(|word| word.starts_with("vinet_")).collect();
        assert!(!named.is_empty(), "{expression}");
        for name in named {
            assert!(exported.contains(name), "`{name}` of `{expression}` is not exported");
        }
    }
}

/// The queries of a dashboard, wherever they stand.
fn collect(value: &serde_json::Value, expressions: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                match value.as_str().filter(|_| key == "expr" || key == "query" || key == "definition") {
                    Some(text) if text.contains("vinet_") || key == "expr" => expressions.push(text.to_owned()),
                    _ => collect(value, expressions),
                }
            }
        }
        serde_json::Value::Array(array) => array.iter().for_each(|value| collect(value, expressions)),
        _ => {}
    }
}

/// A core that answers, on a thread of its own, and counts how often it was asked.
struct Answering {
    address: SocketAddr,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    fn start() -> Answering {
        let (woken, wakes) = bounded(64);
        let metrics = Metrics::start("127.0.0.1:0".parse().unwrap(), move || {
            let _ = woken.try_send(());
        })
        .unwrap();
        let (asked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (address, counted, stopped) = (metrics.address(), Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = wakes.recv_timeout(Duration::from_millis(5));
                metrics.serve(|| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    sample()
                });
            }
        });
        Answering { address, asked, stop, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn get(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_scraper_gets_the_page_and_others_a_reason() {
    let core = Answering::start();
    let page = core.get("GET /metrics HTTP/1.1\r\nHost: edge1\r\n\r\n");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
    assert!(body.contains("vinet_build_info{version="), "{body}");
    let head = core.get("HEAD /metrics?x=1 HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "200"),
        ("GET /etc/passwd HTTP/1.1\r\n\r\n", "404"),
        ("GET /../metrics HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400"),
        (&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)), "431"),
        (&format!("GET /{}", "x".repeat(REQUEST_LEN_MAX - 5)), "431"),
    ] {
        let said = core.get(request);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {said}");
    }
}

#[test]
fn many_scrapes_are_one_question_to_the_core() {
    let core = Answering::start();
    let start = Instant::now();
    for _ in 0..50 {
        assert!(core.get("GET /metrics HTTP/1.1\r\n\r\n").contains("# EOF"));
    }
    let most = 2 + start.elapsed().as_nanos() / SAMPLE_AGE_MAX.as_nanos();
    assert!(u128::from(core.asked.load(Ordering::Relaxed)) <= most);
}

#[test]
fn clients_that_say_nothing_give_way_to_one_that_asks() {
    let core = Answering::start();
    let mut silent: Vec<TcpStream> = (0..3 * CONNECTIONS_MAX).map(|_| core.connect()).collect();
    for stream in &mut silent {
        // Those that gave way may have been closed by now.
        let _ = stream.write_all(b"GET /metrics HT");
    }
    let page = core.get("GET /metrics HTTP/1.1\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    let closed = silent.iter_mut().take(CONNECTIONS_MAX).all(|s| s.read(&mut [0]).map_or(true, |len| len == 0));
    assert!(closed, "the oldest are closed");
}

#[test]
fn without_an_answer_of_the_core_the_page_says_so() {
    let metrics = Metrics::start("127.0.0.1:0".parse().unwrap(), || {}).unwrap();
    let mut stream = TcpStream::connect(metrics.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    drop(metrics);
}
