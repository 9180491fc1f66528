//! Nodes that were made up, each good but for one thing, which has to be found and told with its remedy.

use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use vinet_fastpath::eal::drivers_folder;
use vinet_session::identity::{AuthorityKey, Subject, Validity};

use super::*;
use crate::lock::Lock;

const NOW_S: u64 = 1_800_000_000;
const GIB_KIB: u64 = 1 << 20;

/// A virtio NIC with an IOMMU, a NIC that nothing here drives, and one that the kernel shares.
const DRIVERS: [(&str, &str); 3] = [
    (
        "net_virtio",
        r#"{"name": "net_virtio", "kmod": "* igb_uio | uio_pci_generic | vfio-pci", "pci_ids": [[6900, 4161, 65535, 65535]]}"#,
    ),
    (
        "net_mlx5",
        r#"{"name": "mlx5_eth", "kmod": "* ib_uverbs & mlx5_core & mlx5_ib", "pci_ids": [[5555, 4119, 65535, 65535]]}"#,
    ),
    ("net_af_packet", r#"{"name": "net_af_packet", "params": "iface=<string>", "pci_ids": []}"#),
];

/// A made-up node with a configuration for it.
struct Node {
    root: TempDir,
    config: String,
    now_s: u64,
    addresses: Vec<(String, std::net::IpAddr)>,
}

impl Node {
    /// Everything is as it should be: two virtio NICs, bound to vfio-pci, two cores, the second one the worker's alone.
    fn good() -> Node {
        let root = tempfile::tempdir().unwrap();
        let validity = Validity::starting(NOW_S - 10, 864_000);
        let key = AuthorityKey::generate("bench").unwrap();
        let subject = Subject::Router { name: "edge1".into(), addrs: Vec::new() };
        key.issue_identity(subject, validity).unwrap().save(&root.path().join("router.key")).unwrap();
        key.authority().save(&root.path().join("authority.pub")).unwrap();
        let policies = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/policy");
        let config = format!(
            r#"
            [router]
            name = "edge1"
            identity = "router.key"
            authority = "authority.pub"
            policies = ["{}/end-user.toml"]
            run_dir = "/run/vinet"
            [eal]
            memory = "auto"
            memory_mb = 256
            [workers]
            cores = [1]
            idle = "spin"
            [control]
            core = 0
            listen = ["192.0.2.1:7400", "127.0.0.1:7400"]
            [[port]]
            name = "edge"
            device = "0000:03:00.0"
            addresses = ["192.0.2.1/24", "2001:db8:1::1/64"]
            controlled = ["192.0.2.0/24"]
            [[port]]
            name = "uplink"
            device = "04:00.0"
            addresses = ["198.51.100.2/24"]
            [capacity]
            cycles_per_second = 1_000_000_000
            memory_bytes = 1_000_000
            "#,
            policies.display()
        );
        let node = Node { root, config, now_s: NOW_S, addresses: Vec::new() };
        node.file("/proc/self/status", "Name:\tvinetd\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\n");
        node.file(
            "/proc/self/limits",
            "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  65536  65536  bytes\n",
        );
        node.file("/proc/cpuinfo", "processor : 0\nflags : fpu ssse3 sse4_2 popcnt constant_tsc nonstop_tsc\n");
        node.file("/proc/meminfo", "MemAvailable:    4194304 kB\nHugepagesize:       2048 kB\n");
        node.file("/proc/interrupts", "  0:  9  0  IR-IO-APIC   2-edge  timer\n 24:  1  0  IR-PCI-MSI 0-edge  x\n");
        node.file("/proc/sys/kernel/osrelease", "6.1.0-test\n");
        node.file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0\n");
        node.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
        node.file("/sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet\n");
        node.file("/run/systemd/timesync/synchronized", "");
        node.file("/dev/net/tun", "");
        for (file, cores) in [("online", "0-1"), ("isolated", "1"), ("nohz_full", "1")] {
            node.file(&format!("/sys/devices/system/cpu/{file}"), cores);
        }
        node.hugepages(2048, 256, 128);
        let folder = drivers_folder().unwrap().to_str().unwrap();
        for (name, text) in DRIVERS {
            node.file(&format!("{folder}/librte_{name}.so.23.0"), &format!("ELF\0PMD_INFO_STRING= {text}\0"));
        }
        node.file("/lib/modules/6.1.0-test/modules.dep", "");
        node.file("/usr/bin/dpdk-devbind.py", "");
        for (address, group) in [("0000:03:00.0", "7"), ("0000:04:00.0", "8")] {
            node.nic(address, "0x1af4", "0x1041");
            node.link(&format!("/sys/bus/pci/devices/{address}/iommu_group"), &format!("../../iommu_groups/{group}"));
            node.folder(&format!("/sys/kernel/iommu_groups/{group}/devices/{address}"));
            node.file(&format!("/dev/vfio/{group}"), "");
            node.bound(address, "vfio-pci");
        }
        node.folder("/sys/module/vfio_pci");
        node.folder("/sys/module/vfio_iommu_type1");
        node
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.root.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn folder(&self, path: &str) {
        std::fs::create_dir_all(self.root.path().join(path.trim_start_matches('/'))).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.root.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    fn remove(&self, path: &str) {
        let path = self.root.path().join(path.trim_start_matches('/'));
        let is_folder = path.symlink_metadata().unwrap().is_dir();
        if is_folder { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }

    fn hugepages(&self, kib: u64, reserved: u64, free: u64) {
        let folder = format!("/sys/kernel/mm/hugepages/hugepages-{kib}kB");
        self.file(&format!("{folder}/nr_hugepages"), &reserved.to_string());
        self.file(&format!("{folder}/free_hugepages"), &free.to_string());
    }

    fn nic(&self, address: &str, vendor: &str, device: &str) {
        let ids = [("class", "0x020000"), ("vendor", vendor), ("device", device), ("numa_node", "-1")];
        for (file, text) in ids {
            self.file(&format!("/sys/bus/pci/devices/{address}/{file}"), text);
        }
    }

    fn bound(&self, address: &str, driver: &str) {
        self.link(&format!("/sys/bus/pci/devices/{address}/driver"), &format!("../../drivers/{driver}"));
    }

    /// The kernel has the first NIC, as `eth1`.
    fn with_the_kernel(self) -> Node {
        self.bound("0000:03:00.0", "virtio-pci");
        self.folder("/sys/bus/pci/devices/0000:03:00.0/virtio1/net/eth1");
        self
    }

    fn without_iommu(self) -> Node {
        for address in ["0000:03:00.0", "0000:04:00.0"] {
            self.remove(&format!("/sys/bus/pci/devices/{address}/iommu_group"));
        }
        self.remove("/sys/kernel/iommu_groups");
        self
    }

    fn set(mut self, from: &str, to: &str) -> Node {
        assert!(self.config.contains(from), "{from}");
        self.config = self.config.replacen(from, to, 1);
        self
    }

    /// The first port is an interface of the kernel, `eth1`.
    fn over(self, driver: &str) -> Node {
        let node = self.set("device = \"0000:03:00.0\"", &format!("device = \"{driver}0,iface=eth1\""));
        node.file("/sys/class/net/eth1/operstate", "up\n");
        node.file("/sys/class/net/eth1/carrier", "1\n");
        node.file("/sys/class/net/eth1/mtu", "1500\n");
        node.folder("/sys/class/net/eth1/queues/rx-0");
        node.folder("/sys/module/nf_tables");
        node
    }

    fn examine(&self) -> Vec<Finding> {
        let config = Config::parse(&self.root.path().join("router.toml"), &self.config).unwrap();
        let machine = Machine::at(self.root.path(), self.now_s, self.addresses.clone());
        let findings = examine(&machine, Some(&config));
        for finding in &findings {
            assert!(finding.status == Status::Ok || finding.remedy.is_some(), "{finding}");
        }
        findings
    }

    /// What ails the device of the first port, whatever else is wrong: its status, what was found, and the remedy.
    #[track_caller]
    fn first_device(&self) -> (Status, String, Remedy) {
        let mut all = self.examine().into_iter();
        let found = all.find(|f| f.check == "device" && f.subject == "0000:03:00.0").unwrap();
        (found.status, found.found, found.remedy.unwrap())
    }

    /// The only finding that is not ok: its status, its text with the check's name, and its remedy.
    #[track_caller]
    fn fault(&self) -> (Status, String, Remedy) {
        let mut bad: Vec<Finding> = self.examine();
        bad.retain(|finding| finding.status != Status::Ok);
        assert_eq!(bad.len(), 1, "{bad:#?}");
        let Finding { check, subject, status, found, remedy } = bad.remove(0);
        (status, format!("{check} {subject}: {found}"), remedy.unwrap())
    }

    /// The only fault is a failure, with this line to type.
    #[track_caller]
    fn fails(&self, words: &str, line: &str) {
        let (status, found, remedy) = self.fault();
        assert_eq!((status, remedy), (Status::Fail, Remedy::Type(line.to_owned())), "{found}");
        assert!(found.contains(words), "{found}");
    }

    /// The only fault has this status, and its remedy, of whichever form, these words.
    #[track_caller]
    fn ends(&self, wanted: Status, words: &str, help: &str) {
        let (status, found, remedy) = self.fault();
        let (Remedy::Type(text) | Remedy::Do(text)) = &remedy;
        assert!(status == wanted && found.contains(words) && text.contains(help), "{status}: {found}\n{text}");
    }
}

#[test]
fn a_good_node_passes_every_check() {
    let findings = Node::good().examine();
    let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.status != Status::Ok).collect();
    assert!(bad.is_empty() && is_fit(&findings), "{bad:#?}");
    assert_eq!(summary(&findings), format!("all {} checks are ok", findings.len()));
    let has = |check: &str| findings.iter().any(|finding| finding.check == check);
    for check in
        ["privileges", "dpdk", "instance", "identity", "run_dir", "listen", "core", "hugepages", "iommu", "device"]
    {
        assert!(has(check), "{check}");
    }
    let over = Node::good().over("net_af_packet").examine();
    assert!(is_fit(&over) && over.iter().any(|finding| finding.check == "nf_tables"), "{over:#?}");
}

#[test]
fn missing_hugepages_are_told_with_the_number_that_is_missing() {
    let node = Node::good().set("\"auto\"", "\"huge\"");
    node.hugepages(2048, 200, 28);
    node.fails("hugepages", "echo 300 > /proc/sys/vm/nr_hugepages");
    node.file("/proc/meminfo", "MemAvailable:    102400 kB\nHugepagesize:       2048 kB\n");
    node.ends(Status::Fail, "hugepages", "200 MiB more are needed and 100 MiB of memory are available");
    // Enough of another size is enough.
    node.hugepages(GIB_KIB, 1, 1);
    assert!(is_fit(&node.examine()));
    // Behind an IOMMU, or over the kernel's interfaces, ordinary pages do, if the file allows them.
    let node = Node::good().over("net_af_packet");
    node.hugepages(2048, 0, 0);
    node.ends(Status::Warn, "slower", "echo 128 >");
    node.set("\"auto\"", "\"huge\"").ends(Status::Fail, "none are reserved", "echo 128 >");
    let node = Node::good().without_iommu();
    for (address, uio) in [("0000:03:00.0", "uio0"), ("0000:04:00.0", "uio1")] {
        node.bound(address, "uio_pci_generic");
        node.folder(&format!("/sys/bus/pci/devices/{address}/uio/{uio}"));
        node.file(&format!("/dev/{uio}"), "");
    }
    assert!(is_fit(&node.examine()));
    node.hugepages(2048, 0, 0);
    node.fails("none are reserved", "echo 128 > /proc/sys/vm/nr_hugepages");
    node.set("\"auto\"", "\"no-huge\"").ends(Status::Fail, "no IOMMU", "memory = \"huge\"");
}

#[test]
fn hugepages_on_another_memory_node_are_seen() {
    let node = Node::good();
    node.folder("/sys/devices/system/node/node0");
    node.folder("/sys/devices/system/cpu/cpu1/node1");
    let folder = "/sys/devices/system/node/node1/hugepages";
    node.file(&format!("{folder}/hugepages-2048kB/nr_hugepages"), "10");
    node.file(&format!("{folder}/hugepages-2048kB/free_hugepages"), "8");
    let line = format!("echo 130 > {folder}/hugepages-2048kB/nr_hugepages");
    node.ends(Status::Warn, "hugepages node 1: 16 MiB are free on the memory node of core 1", &line);
    node.file("/sys/bus/pci/devices/0000:03:00.0/numa_node", "0");
    node.file(&format!("{folder}/hugepages-2048kB/free_hugepages"), "128");
    node.ends(Status::Warn, "is on memory node 0, and core 1 is not", "[workers] cores");
}

#[test]
fn packet_buffers_must_fit_into_the_memory() {
    let node = Node::good().set("memory_bytes = 1_000_000", "memory_bytes = 1_000_000\n[mempool]\nbuffers = 131071");
    node.ends(Status::Fail, "packet buffers : 131071 of 2176 bytes take 304 of 256 MiB", "memory_mb to 380");
}

#[test]
fn a_nic_of_the_kernel_is_bound_by_the_line_that_is_told() {
    Node::good()
        .with_the_kernel()
        .fails("device 0000:03:00.0: bound to the kernel's virtio-pci", "dpdk-devbind.py --bind=vfio-pci 0000:03:00.0");
    let node = Node::good().with_the_kernel();
    node.remove("/usr/bin/dpdk-devbind.py");
    node.remove("/sys/module/vfio_pci");
    node.file(
        "/lib/modules/6.1.0-test/modules.dep",
        "kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/vfio.ko\n",
    );
    let device = "/sys/bus/pci/devices/0000:03:00.0";
    let (_, _, remedy) = node.first_device();
    assert_eq!(
        remedy,
        Remedy::Type(format!(
            "modprobe vfio-pci && echo vfio-pci > {device}/driver_override && echo 0000:03:00.0 > {device}/driver/unbind && \
             echo 0000:03:00.0 > /sys/bus/pci/drivers_probe"
        ))
    );
    node.remove(&format!("{device}/driver"));
    let (_, found, remedy) = node.first_device();
    assert!(found.contains("bound to nothing"), "{found}");
    assert!(matches!(&remedy, Remedy::Type(line) if !line.contains("unbind")), "{remedy:?}");
}

#[test]
fn without_an_iommu_uio_takes_the_place_of_vfio() {
    let node = Node::good().with_the_kernel().without_iommu();
    let told = |node: &Node| node.first_device().2;
    assert!(matches!(told(&node), Remedy::Do(words) if words.contains("intel_iommu=on")));
    node.file(
        "/lib/modules/6.1.0-test/modules.dep",
        "kernel/drivers/uio/uio_pci_generic.ko.xz: kernel/drivers/uio/uio.ko.xz\n",
    );
    let line = "modprobe uio_pci_generic && dpdk-devbind.py --bind=uio_pci_generic 0000:03:00.0";
    assert_eq!(told(&node), Remedy::Type(line.to_owned()));
    node.file("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n");
    assert_eq!(told(&node), Remedy::Type("dpdk-devbind.py --bind=vfio-pci 0000:03:00.0".to_owned()));
}

#[test]
fn a_nic_that_carries_the_nodes_own_traffic_is_never_taken_by_a_line() {
    let mut node = Node::good().with_the_kernel();
    node.addresses.push(("eth1".to_owned(), "203.0.113.9".parse().unwrap()));
    let header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
    node.file("/proc/net/route", &format!("{header}eth1\t00000000\t017100CB\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"));
    let (status, found, remedy) = node.fault();
    assert_eq!(status, Status::Fail);
    assert!(found.contains("eth1 has 203.0.113.9 and carries the default route"), "{found}");
    assert!(matches!(remedy, Remedy::Do(_)), "{remedy:?}");
}

#[test]
fn what_is_no_nic_of_dpdk_is_told_apart() {
    let node = Node::good();
    node.nic("0000:03:00.0", "0x10ec", "0x8139");
    node.ends(Status::Fail, "no driver of this DPDK knows 10ec:8139", "net_af_xdp0");
    node.file("/sys/bus/pci/devices/0000:03:00.0/class", "0x010802");
    node.ends(Status::Fail, "device 0000:03:00.0: is no network device", "network devices are: 0000:04:00.0");
    node.remove("/sys/bus/pci/devices/0000:03:00.0");
    node.ends(Status::Fail, "device 0000:03:00.0: no PCI device has this address", "network devices are: 0000:04:00.0");
}

#[test]
fn vfio_lacks_are_told_one_by_one() {
    let node = Node::good();
    node.folder("/sys/kernel/iommu_groups/7/devices/0000:03:00.1");
    node.bound("0000:03:00.1", "i40e");
    node.ends(Status::Fail, "its IOMMU group 7 has devices that the kernel keeps: 0000:03:00.1", "vfio-pci too");
    node.bound("0000:03:00.1", "pcieport");
    assert!(is_fit(&node.examine()));

    node.remove("/dev/vfio/7");
    node.ends(Status::Fail, "/dev/vfio/7 is missing", "udev");
    node.file("/dev/vfio/7", "");

    let node = node.over("net_af_packet").set("04:00.0", "03:00.0");
    node.file("/proc/interrupts", "  0:  9  0  IO-APIC   2-edge  timer\n 24:  1  0  PCI-MSI 0-edge  x\n");
    node.ends(Status::Fail, "does not remap interrupts", "allow_unsafe_interrupts");
    node.file("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
    assert!(is_fit(&node.examine()));
    node.remove("/sys/module/vfio_iommu_type1");
    node.fails("vfio's module for IOMMUs is not loaded", "modprobe vfio_iommu_type1");
}

#[test]
fn uio_behind_a_translating_iommu_fails_and_is_sent_to_vfio() {
    let node = Node::good();
    node.bound("0000:03:00.0", "uio_pci_generic");
    node.ends(Status::Fail, "which made no uio device for it", "--bind=vfio-pci");
    node.folder("/sys/bus/pci/devices/0000:03:00.0/uio/uio0");
    node.ends(Status::Fail, "/dev/uio0 is missing", "devtmpfs");
    node.file("/dev/uio0", "");
    assert!(is_fit(&node.examine()));
    node.file("/sys/kernel/iommu_groups/7/type", "DMA-FQ\n");
    node.fails("translates its addresses", "dpdk-devbind.py --bind=vfio-pci 0000:03:00.0");
}

#[test]
fn a_device_that_the_kernel_shares_goes_back_to_it() {
    let node = Node::good();
    node.nic("0000:03:00.0", "0x15b3", "0x1017");
    for module in ["ib_uverbs", "mlx5_core", "mlx5_ib"] {
        node.folder(&format!("/sys/module/{module}"));
    }
    node.fails(
        "bound to vfio-pci; DPDK's mlx5_eth works over the kernel's ib_uverbs, mlx5_core, mlx5_ib",
        "echo > /sys/bus/pci/devices/0000:03:00.0/driver_override && \
         echo 0000:03:00.0 > /sys/bus/pci/devices/0000:03:00.0/driver/unbind && echo 0000:03:00.0 > /sys/bus/pci/drivers_probe",
    );
    node.bound("0000:03:00.0", "mlx5_core");
    assert!(is_fit(&node.examine()));
    node.remove("/sys/module/ib_uverbs");
    node.fails("works over the kernel's", "modprobe ib_uverbs");
}

#[test]
fn interfaces_beneath_ports_are_looked_at() {
    let node = || Node::good().over("net_af_packet");
    let gone = node();
    gone.remove("/sys/class/net/eth1");
    gone.folder("/sys/class/net/eth7");
    gone.ends(
        Status::Fail,
        "interface eth1: there is none of this name",
        "there are: eth7; name one in [[port]] `edge` device",
    );

    let mut addressed = node();
    addressed.addresses.push(("eth1".to_owned(), "203.0.113.9".parse().unwrap()));
    addressed.addresses.push(("eth1".to_owned(), "fe80::1".parse().unwrap()));
    addressed.fails("has addresses of its own: 203.0.113.9", "ip address flush dev eth1");

    let dark = node();
    dark.file("/sys/class/net/eth1/carrier", "0\n");
    dark.file("/sys/class/net/eth1/operstate", "down\n");
    dark.ends(Status::Warn, "without a carrier", "cable");

    // Longer packets than the policy has prices for are a fault of their own.
    let all = node().set("addresses = [\"192", "mtu = 2000\naddresses = [\"192").examine();
    let bad: Vec<String> = all.iter().filter(|f| f.status != Status::Ok).map(ToString::to_string).collect();
    assert_eq!(bad.len(), 2, "{bad:#?}");
    assert!(bad[0].contains("packet_bytes_max") && bad[1].ends_with("$ ip link set dev eth1 mtu 2000"), "{bad:#?}");

    let old = node();
    old.remove("/sys/module/nf_tables");
    old.ends(Status::Fail, "nf_tables", "CONFIG_NF_TABLES_NETDEV");
    old.file("/proc/kallsyms", "0000000000000000 t nf_tables_newtable\n");
    assert!(is_fit(&old.examine()));

    let clash = node();
    clash.folder("/sys/class/net/vi-edge");
    clash.ends(Status::Fail, "twin vi-edge: an interface of this name is there", "[[port]] `edge` tap");
    clash.file("/sys/class/net/vi-edge/tun_flags", "0x1002\n");
    assert!(is_fit(&clash.examine()));

    let unknown = Node::good().set("0000:03:00.0", "net_af_paket0,iface=eth1");
    unknown.ends(
        Status::Fail,
        "driver net_af_paket0: no driver of this DPDK makes such a device",
        "[[port]] `edge` device",
    );
}

#[test]
fn queues_that_an_xdp_socket_does_not_see_are_told() {
    let node = Node::good().over("net_af_xdp");
    let folder = drivers_folder().unwrap().to_str().unwrap();
    let text = r#"PMD_INFO_STRING= {"name": "net_af_xdp", "pci_ids": []}"#;
    node.file(&format!("{folder}/librte_net_af_xdp.so.23.0"), &format!("{text}\0"));
    assert!(is_fit(&node.examine()));
    node.folder("/sys/class/net/eth1/queues/rx-1");
    node.ends(Status::Warn, "has 2 receive queues, and 1 are polled", "ethtool -L eth1 combined 1");
    let both = node.set("iface=eth1", "iface=eth1,queue_count=2").examine();
    assert!(both.iter().all(|finding| finding.status == Status::Ok), "{both:#?}");
}

#[test]
fn cores_are_looked_at_as_the_workers_will_use_them() {
    let node = Node::good();
    node.file("/sys/devices/system/cpu/isolated", "\n");
    node.ends(Status::Warn, "core 1: not isolated", "isolcpus=1 nohz_full=1");
    let node = node.set("\"spin\"", "\"backoff\"");
    assert!(node.examine().iter().all(|finding| finding.status == Status::Ok));
    node.file("/sys/devices/system/cpu/isolated", "0-1\n");
    node.ends(Status::Warn, "control core : core 0 is isolated", "core 1");
    node.file("/sys/devices/system/cpu/isolated", "1\n");
    node.file("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n");
    node.ends(Status::Warn, "is one physical core with core 0", "lscpu -e");
    node.remove("/sys/devices/system/cpu/cpu1");
    let governor = "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
    node.file(governor, "powersave\n");
    node.ends(Status::Warn, "governed by `powersave`", &format!("echo performance > {governor}"));
    node.remove("/sys/devices/system/cpu/cpu1");
    node.file("/sys/devices/system/cpu/online", "0\n");
    node.ends(Status::Fail, "core 1: is not there or off line", "on line are core 0");
    let node = Node::good().set("core = 0", "");
    node.file("/sys/devices/system/cpu/online", "1\n");
    node.ends(Status::Warn, "every core polls", "[workers] cores");
}

#[test]
fn clocks_are_looked_at() {
    let node = Node::good();
    node.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    node.ends(Status::Warn, "clock source : hpet", "echo tsc > /sys/devices/system/clocksource/clocksource0/");
    node.file("/proc/cpuinfo", "flags : ssse3 sse4_2 popcnt\n");
    node.ends(Status::Warn, "the counter is not constant", "invtsc");
    node.file("/proc/cpuinfo", "flags : ssse3 constant_tsc nonstop_tsc\n");
    node.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    node.ends(Status::Fail, "lacks sse4_2, popcnt", "-cpu host");

    let node = Node::good();
    node.file("/sys/class/rtc/rtc0/since_epoch", &(NOW_S - 3600).to_string());
    node.ends(Status::Warn, "3600 s apart", "hwclock");
    node.remove("/sys/class/rtc");
    node.remove("/run/systemd");
    node.ends(Status::Warn, "no time daemon", "chrony");
    let mut node = Node::good();
    node.now_s = 1_000_000_000;
    let all = node.examine();
    let failed: Vec<&str> = all.iter().filter(|f| f.status == Status::Fail).map(|f| f.check).collect();
    assert_eq!(failed, ["time", "identity"], "{all:#?}");
}

#[test]
fn rights_and_kernel_features_are_looked_at() {
    let node = Node::good();
    node.file("/proc/self/status", "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n");
    let all = node.examine();
    assert!(all[0].status == Status::Fail && all[0].found == "not root", "{all:#?}");
    // Everything but CAP_SYS_ADMIN and CAP_IPC_LOCK.
    node.file("/proc/self/status", &format!("Uid:\t0\t0\t0\t0\nCapEff:\t{:x}\n", !(1_u64 << 21 | 1 << 14)));
    let all = node.examine();
    let failed: Vec<&str> = all.iter().filter(|f| f.status == Status::Fail).map(|f| f.found.as_str()).collect();
    let limit = "at most 0 MiB; 256 MiB are configured";
    assert_eq!(failed, ["root without CAP_SYS_ADMIN, CAP_IPC_LOCK", limit]);

    let node = Node::good();
    node.remove("/dev/net/tun");
    node.ends(Status::Fail, "no TUN/TAP", "CONFIG_TUN");
    node.file("/lib/modules/6.1.0-test/modules.dep", "kernel/drivers/net/tun.ko.zst:\n");
    node.fails("tun", "modprobe tun");
    node.file("/lib/modules/6.1.0-test/modules.builtin", "kernel/drivers/net/tun.ko\n");
    node.ends(Status::Fail, "/dev/net/tun is missing", "mknod");

    let node = Node::good();
    node.remove("/proc/sys/net/ipv6");
    node.ends(Status::Fail, "not in this kernel", "ipv6.disable=1");
    let node = Node::good();
    let folder = drivers_folder().unwrap().to_str().unwrap();
    node.link(&format!("{folder}/librte_net_virtio.so"), "librte_net_virtio.so.23.0");
    assert!(is_fit(&node.examine()));
    node.file(&format!("{folder}/librte_net_virtio.so.23"), "a copy");
    node.ends(Status::Fail, "librte_net_virtio is there as several files", "links");
    node.remove(folder);
    let all = node.examine();
    assert!(all.iter().any(|f| f.check == "dpdk" && f.status == Status::Fail), "{all:#?}");
}

#[test]
fn a_router_of_the_same_name_is_seen_and_not_disturbed() {
    let node = Node::good();
    let dir = node.root.path().join("run/vinet");
    let lock = Lock::take(&dir, "edge1").unwrap();
    node.file("/proc/locks", &std::fs::read_to_string("/proc/locks").unwrap());
    node.hugepages(2048, 256, 0);
    node.file("/proc/net/tcp", "0: 010200C0:1CE8 00000000:0000 0A 0\n");
    let (status, found, _) = node.fault();
    assert_eq!(status, Status::Fail);
    assert!(found.contains(&format!("`edge1` runs already, as process {}", std::process::id())), "{found}");
    assert!(matches!(Lock::take(&dir, "edge1"), Err(crate::lock::LockError::Held { .. })));
    drop(lock);
}

#[test]
fn addresses_and_folders_that_cannot_be_had_are_told() {
    let node = Node::good();
    node.file("/proc/net/tcp", "0: 00000000:1CE8 00000000:0000 0A 0\n");
    let all = node.examine();
    let failed: Vec<&str> = all.iter().filter(|f| f.status == Status::Fail).map(|f| f.subject.as_str()).collect();
    assert_eq!(failed, ["192.0.2.1:7400", "127.0.0.1:7400"], "{all:#?}");
    let mut node = Node::good().set("127.0.0.1:7400", "203.0.113.9:7400");
    node.ends(Status::Fail, "no port and no interface has this address", "[control] listen");
    node.addresses.push(("eth0".to_owned(), "203.0.113.9".parse().unwrap()));
    assert!(is_fit(&node.examine()));
    let node = Node::good();
    node.file("/run/vinet", "a file in the way");
    node.ends(Status::Fail, "/run/vinet cannot be written in", "run_dir");
}

#[test]
fn keys_and_policies_are_read() {
    let node = Node::good();
    node.remove("/router.key");
    node.ends(Status::Fail, "identity", "vinet ca router");
    let node = Node::good();
    node.remove("/authority.pub");
    node.ends(Status::Fail, "authority", "authority.pub");
    let mut node = Node::good();
    node.now_s += 10 * 86_400;
    node.ends(Status::Fail, "expired", "vinet ca router");
    Node::good().set("end-user.toml", "nobody.toml").ends(Status::Fail, "policies", "[router] policies");
}

#[test]
fn without_a_configuration_the_nics_are_listed() {
    let node = Node::good().with_the_kernel();
    let findings = examine(&Machine::at(node.root.path(), NOW_S, Vec::new()), None);
    let nics: Vec<&str> = findings.iter().filter(|f| f.check == "nic").map(|f| f.found.as_str()).collect();
    assert_eq!(
        nics,
        [
            "1af4:1041, DPDK's net_virtio, bound to virtio-pci; eth1, not in use",
            "1af4:1041, DPDK's net_virtio, bound to vfio-pci"
        ]
    );
    assert!(is_fit(&findings));
}

#[test]
fn a_finding_is_a_line_with_its_remedy_below_or_one_json_object() {
    let finding = Finding {
        check: "device",
        subject: "0000:03:00.0".into(),
        status: Status::Fail,
        found: "bound to \"x\"".into(),
        remedy: Some(to_type("modprobe y")),
    };
    assert_eq!(finding.to_string(), "fail  device 0000:03:00.0    bound to \"x\"\n      $ modprobe y");
    assert_eq!(
        finding.to_json(),
        r#"{"check":"device","subject":"0000:03:00.0","status":"fail","found":"bound to \"x\"","type":"modprobe y"}"#
    );
    let finding = Finding { subject: String::new(), status: Status::Warn, remedy: Some(to_do("decide")), ..finding };
    assert!(finding.to_string().ends_with("\n      > decide"));
    assert!(finding.to_json().ends_with(r#""do":"decide"}"#) && !finding.to_json().contains("subject"));
    let finding = Finding { status: Status::Ok, remedy: None, ..finding };
    assert_eq!(finding.to_json(), r#"{"check":"device","status":"ok","found":"bound to \"x\""}"#);
}
