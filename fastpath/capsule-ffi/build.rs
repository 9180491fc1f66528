//! Generates the bindings that capsule names and compiles the shim. Finding DPDK is explained in `vinet-dpdk-sys`.

use std::path::PathBuf;
use std::process::Command;
use std::{env, process};

const FUNCTIONS: &str = "capsule_.*|rte_eal_init|rte_pktmbuf_pool_create|rte_mempool_(avail_count|in_use_count)|\
    rte_strerror|rte_socket_(id|count|id_by_idx)|rte_thread_set_affinity|rte_eth_dev_(get_port_by_name|info_get|socket_id|\
    configure|adjust_nb_rx_tx_desc|start|stop|close)|rte_eth_(rx|tx)_queue_setup|rte_eth_macaddr_get|\
    rte_eth_promiscuous_(enable|disable)|rte_eth_allmulticast_(enable|disable)|rte_eth_stats_get";

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
    let library =
        pkg_config::Config::new().atleast_version("22.11").cargo_metadata(false).probe("libdpdk").unwrap_or_else(
            |error| give_up(&format!("pkg-config finds no libdpdk of version 22.11 or later\n{error}")),
        );
    for path in &library.link_paths {
        println!("cargo:rustc-link-search=native={}", path.display());
    }
    for name in ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool"] {
        println!("cargo:rustc-link-lib=dylib={name}");
    }

    let tool = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let flags = match Command::new(&tool).args(["--cflags", "libdpdk"]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => give_up(&format!("{tool} --cflags libdpdk: {}", String::from_utf8_lossy(&output.stderr))),
        Err(error) => give_up(&format!("{tool} does not run: {error}")),
    };
    let flags: Vec<&str> = flags.split_whitespace().collect();

    let mut shim = cc::Build::new();
    shim.file("shim.c").opt_level(3);
    for flag in &flags {
        shim.flag(flag);
    }
    if let Err(error) = shim.try_compile("capsule_dpdk_shim") {
        give_up(&format!("the shim over DPDK's inline functions does not compile: {error}"));
    }

    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(&flags)
        .allowlist_function(FUNCTIONS)
        .allowlist_type("rte_cpuset_t|rte_eth_stats|capsule_constants")
        .opaque_type("rte_eth_dev|rte_device|rte_mempool_ops_.*|rte_driver|rte_bus")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .derive_default(true)
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
