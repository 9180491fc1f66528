//! Finds DPDK by pkg-config, generates the bindings and compiles the shim.

use std::path::PathBuf;
use std::process::Command;
use std::{env, process};

/// The oldest DPDK whose structures and names the bindings are written for.
const DPDK_VERSION_MIN: &str = "22.11";

/// The libraries that this crate calls. Drivers are not among them: EAL loads them from its own folder at run time.
const LIBRARIES: [&str; 4] = ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool"];

const FUNCTIONS: &str = "vinet_.*|rte_eal_(init|cleanup|has_hugepages|iova_mode|hotplug_remove)|rte_version|rte_strerror|\
    rte_openlog_stream|rte_thread_(register|unregister)|rte_dev_(probe|remove|name|driver|bus)|rte_driver_name|rte_bus_name|\
    rte_pktmbuf_(pool_create|free_bulk)|rte_mempool_(free|avail_count)|rte_eth_dev_(get_port_by_name|get_name_by_port|\
    info_get|configure|adjust_nb_rx_tx_desc|start|stop|close|set_mtu|get_mtu|socket_id|owner_new|owner_set|owner_unset|\
    owner_get|is_valid_port)|rte_eth_(rx|tx)_queue_setup|rte_eth_promiscuous_(enable|get)|\
    rte_eth_allmulticast_(enable|get)|rte_eth_link_get_nowait|rte_eth_macaddr_get|rte_eth_stats_(get|reset)|\
    rte_eth_xstats_(get|get_names)|rte_eth_call_(rx|tx)_callbacks";

const VARIABLES: &str = "vinet_.*|rte_eth_fp_ops|RTE_PKTMBUF_HEADROOM|RTE_MAX_ETHPORTS|RTE_MAX_LCORE|\
    RTE_MEMPOOL_CACHE_MAX_SIZE|RTE_ETH_XSTATS_NAME_SIZE|RTE_ETH_MAX_OWNER_NAME_LEN|RTE_EAL_PMD_PATH";

fn give_up(what: &str) -> ! {
    eprintln!("error: {what}");
    eprintln!("help: on Debian 12, run: apt-get install libdpdk-dev libclang-dev pkg-config gcc");
    process::exit(1)
}

fn main() {
    for file in ["build.rs", "wrapper.h", "shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG_PATH", "PKG_CONFIG", "LIBCLANG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }

    let library = pkg_config::Config::new()
        .atleast_version(DPDK_VERSION_MIN)
        .cargo_metadata(false)
        .probe("libdpdk")
        .unwrap_or_else(|error| {
            give_up(&format!("pkg-config finds no libdpdk of version {DPDK_VERSION_MIN} or later\n{error}"))
        });
    for path in &library.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for name in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={name}");
    }

    // The headers need `-include rte_config.h` and `-march=…`, which the pkg-config crate does not hand on.
    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let flags = match Command::new(&tool).args(["--cflags", "libdpdk"]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => give_up(&format!("{tool} --cflags libdpdk: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => give_up(&format!("{tool} does not run: {error}")),
    };
    let flags: Vec<&str> = flags.split_whitespace().collect();

    let mut shim = cc::Build::new();
    shim.file("shim.c").define("_GNU_SOURCE", None).opt_level(3);
    for flag in &flags {
        shim.flag(flag);
    }
    if let Err(error) = shim.try_compile("vinet_dpdk_shim") {
        give_up(&format!("the shim over DPDK's inline functions does not compile: {error}"));
    }

    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&flags)
        .clang_arg("-D_GNU_SOURCE")
        .allowlist_function(FUNCTIONS)
        .allowlist_var(VARIABLES)
        .opaque_type("rte_eth_dev|rte_device|rte_mempool_.*|rte_driver|rte_bus")
        .blocklist_type("FILE|_IO_FILE")
        .raw_line("/// C's stream type; only ever behind a pointer.\npub type FILE = core::ffi::c_void;")
        .prepend_enum_name(false)
        .derive_default(false)
        .derive_debug(false)
        .generate_comments(false)
        .layout_tests(true)
        .use_core()
        .generate()
        .unwrap_or_else(|error| give_up(&format!("bindgen cannot read DPDK's headers: {error}")));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("bindings.rs");
    if let Err(error) = bindings.write_to_file(&out) {
        give_up(&format!("{} cannot be written: {error}", out.display()));
    }
}
