//! The command line of QEMU.

use super::accel::Accelerator;
use super::config::VmConfig;
use super::scratch::Layers;
use super::tsc;
use particle_vm_protocol::{CONTROL_PORT, NETWORK_PORT, serial};
use serde_json::json;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::Path;

/// What is always on the kernel's command line. Under emulation `cryptomgr.notests` saves a fifth of the start; without
/// `tsc=reliable` every processor but the first costs as much again, and to clear each page that is handed out
/// (`init_on_alloc`, which Debian's kernel has on against what one program leaves for another) costs an eighth of all
/// processor time. The kernel restarts at a panic, which `-no-reboot` makes an end of QEMU that says so, without a device
/// and its driver for it.
const KERNEL: &str = "console=ttyS0 quiet panic=-1 cryptomgr.notests tsc=reliable no_timer_check \
                      random.trust_cpu=on 8250.nr_uarts=1 init_on_alloc=0";

/// The kernel's command line, with the rate of the time-stamp counter, which a guest of KVM is told by KVM.
fn kernel(accelerator: Accelerator) -> String {
    match accelerator {
        Accelerator::Tcg => tsc::khz().map_or_else(|| KERNEL.into(), |khz| format!("{KERNEL} tsc_early_khz={khz}")),
        Accelerator::Kvm => KERNEL.into(),
    }
}

/// A chipset with PCI Express and nothing else. `microvm` starts no faster once the firmware is the same.
const MACHINE: &str = "q35,hpet=off,smm=off,sata=off,i8042=off,smbus=off,vmport=off,graphics=off,usb=off,\
                       dump-guest-core=off";

/// Firmware that jumps to the kernel without looking for devices first; it is part of QEMU.
const FIRMWARE: &str = "qboot.rom";

/// System calls that QEMU has no use for once it runs; with `spawn=deny` it cannot start a program.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The descriptors that QEMU inherits.
#[derive(Debug)]
pub struct Channels {
    /// The monitor.
    pub monitor: RawFd,
    /// The serial console.
    pub console: RawFd,
    /// The control port.
    pub control: RawFd,
    /// The network port.
    pub network: Option<RawFd>,
    /// The share's file servers, in the order of [`VmConfig::shares`].
    pub shares: Vec<RawFd>,
}

/// The whole command line without the program.
pub fn arguments(config: &VmConfig, accelerator: Accelerator, channels: &Channels) -> Vec<OsString> {
    let mut line = Line::default();
    line.option("-nodefaults").option("-no-user-config").option("-no-reboot");
    line.pair("-display", "none").pair("-sandbox", SANDBOX);
    let shared = !channels.shares.is_empty();
    line.pair("-machine", format!("{MACHINE}{}", if shared { ",memory-backend=memory" } else { "" }));
    let cpu = match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    };
    line.pair("-accel", accelerator.option()).pair("-cpu", cpu);
    line.pair("-smp", config.cpus.to_string()).pair("-m", format!("{}M", config.memory_mib));
    if shared {
        // The file servers map the guest's memory.
        let size = config.memory_mib;
        line.pair("-object", format!("memory-backend-memfd,id=memory,size={size}M,share=on"));
    }
    if let Some(firmware) = firmware(config.hypervisor.program()) {
        line.pair("-bios", firmware);
    }
    line.pair("-kernel", &config.kernel).pair("-initrd", config.initramfs()).pair("-append", kernel(accelerator));
    line.channel("monitor", channels.monitor).pair("-mon", "chardev=monitor,mode=control");
    line.channel("console", channels.console).pair("-serial", "chardev:console");
    disks(&mut line, config);
    ports(&mut line, channels);
    for ((tag, ..), &number) in config.shares().zip(&channels.shares) {
        line.channel(tag, number);
        line.pair("-device", format!("vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"));
    }
    line.0
}

/// The disks. Each has its name as serial number, by which the agent finds it.
fn disks(line: &mut Line, config: &VmConfig) {
    for (layer, path) in config.root_layers.iter().enumerate() {
        let name = format!("{}{layer}", serial::ROOT_PREFIX);
        line.json(&json!({
            "driver": "raw", "node-name": name, "read-only": true,
            "file": { "driver": "file", "filename": path, "read-only": true },
        }));
        line.disk(&name);
    }
    if let Some(layers) = &config.layers {
        scratch(line, layers);
    }
    let disks =
        [(serial::SCRATCH, &config.scratch), (serial::TARGET, &config.target), (serial::ARCHIVE, &config.archive)];
    for (name, disk) in disks {
        let Some(disk) = disk else { continue };
        line.json(&json!({
            "driver": "raw", "node-name": name, "discard": "unmap", "detect-zeroes": "unmap",
            // Nothing of it has to survive a crash of the host: an image is synced when it is complete.
            "cache": { "direct": false, "no-flush": true },
            // Containers' seccomp profiles refuse io_uring, and threads are as fast under emulation.
            "file": { "driver": "file", "filename": disk.path, "aio": "threads", "discard": "unmap" },
        }));
        line.disk(name);
    }
}

/// The scratch disk in layers. Only the lowest that is written has something below it; the others get theirs when they take
/// the place of the one before them.
fn scratch(line: &mut Line, layers: &Layers) {
    let mut below = json!(null);
    for (name, path) in layers.kept() {
        line.json(&json!({
            "driver": "qcow2", "node-name": name, "read-only": true, "backing": below,
            "file": { "driver": "file", "filename": path, "read-only": true },
        }));
        below = json!(name);
    }
    for (name, path) in layers.written() {
        line.json(&json!({
            "driver": "qcow2", "node-name": name, "discard": "unmap", "detect-zeroes": "unmap", "backing": below,
            "cache": { "direct": false, "no-flush": true },
            "file": { "driver": "file", "filename": path, "aio": "threads", "discard": "unmap" },
        }));
        below = json!(null);
    }
    if let Some((first, _)) = layers.written().next() {
        line.device(&first, serial::SCRATCH);
    }
}

/// The virtio-serial ports.
fn ports(line: &mut Line, channels: &Channels) {
    line.pair("-device", "virtio-serial-pci,max_ports=3");
    let ports = [("control", CONTROL_PORT, Some(channels.control)), ("network", NETWORK_PORT, channels.network)];
    for (id, name, number) in ports {
        let Some(number) = number else { continue };
        line.channel(id, number);
        line.pair("-device", format!("virtserialport,chardev={id},name={name}"));
    }
}

/// The fast firmware, where this QEMU brings it along; elsewhere QEMU takes its usual one.
fn firmware(program: &Path) -> Option<OsString> {
    let program = program.canonicalize().ok()?;
    let file = program.parent()?.parent()?.join("share/qemu").join(FIRMWARE);
    file.is_file().then(|| file.into_os_string())
}

#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn option(&mut self, name: &str) -> &mut Self {
        self.0.push(name.into());
        self
    }

    fn pair(&mut self, name: &str, value: impl Into<OsString>) -> &mut Self {
        self.0.push(name.into());
        self.0.push(value.into());
        self
    }

    /// A connected socket that QEMU inherits.
    fn channel(&mut self, id: &str, number: RawFd) -> &mut Self {
        self.pair("-chardev", format!("socket,id={id},fd={number}"))
    }

    /// JSON, because commas in a path would end the value in QEMU's own syntax.
    fn json(&mut self, node: &serde_json::Value) -> &mut Self {
        self.pair("-blockdev", node.to_string())
    }

    /// A disk that is called like its node.
    fn disk(&mut self, name: &str) -> &mut Self {
        self.device(name, name)
    }

    fn device(&mut self, node: &str, name: &str) -> &mut Self {
        // An error of the host's disk stops the VM and is told on the monitor; the guest would take it for its own.
        self.pair("-device", format!("virtio-blk-pci,drive={node},serial={name},werror=stop,rerror=stop"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::config;
    use super::*;

    fn line(config: &VmConfig, shares: Vec<RawFd>) -> Vec<String> {
        let channels = Channels { monitor: 10, console: 11, control: 12, network: None, shares };
        let line = arguments(config, Accelerator::Tcg, &channels);
        line.into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    /// The values of all options of that name.
    fn values<'a>(line: &'a [String], name: &str) -> Vec<&'a str> {
        line.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn there_is_no_network_card_and_nothing_that_was_not_asked_for() {
        let line = line(&config(), Vec::new());
        assert!(line.iter().any(|argument| argument == "-nodefaults"));
        assert!(line.iter().any(|argument| argument == "-no-user-config"));
        assert!(!line.iter().any(|argument| argument.contains("-net") || argument.contains("-nic")));
        assert_eq!(values(&line, "-sandbox"), [SANDBOX]);
        let devices = values(&line, "-device");
        let kinds: Vec<_> = devices.iter().filter_map(|device| device.split(',').next()).collect();
        assert_eq!(
            kinds,
            ["virtio-blk-pci", "virtio-blk-pci", "virtio-blk-pci", "virtio-serial-pci", "virtserialport"]
        );
    }

    #[test]
    fn an_emulated_guest_is_told_how_fast_its_clock_runs() {
        let line = line(&config(), Vec::new());
        let rate = values(&line, "-append")[0].rsplit_once("tsc_early_khz=").unwrap().1;
        assert_eq!(rate.parse::<u64>().unwrap(), tsc::khz().unwrap());
        assert_eq!(kernel(Accelerator::Kvm), KERNEL);
    }

    #[test]
    fn a_comma_in_a_path_ends_nothing() {
        let line = line(&config(), Vec::new());
        let disks: Vec<serde_json::Value> =
            values(&line, "-blockdev").iter().map(|value| serde_json::from_str(value).unwrap()).collect();
        assert_eq!(disks[2]["file"]["filename"], "/work/a,b/scratch.img");
        assert_eq!((&disks[0]["read-only"], &disks[2]["cache"]["no-flush"]), (&true.into(), &true.into()));
    }

    #[test]
    fn each_layer_knows_what_lies_below_it() {
        let (complete, _) = tokio::sync::mpsc::unbounded_channel();
        let files = |names: &[&str]| names.iter().map(|name| format!("/work/{name}").into()).collect();
        let layers = Layers {
            empty: "/work/empty".into(),
            kept: files(&["one", "two"]),
            written: files(&["three", "four"]),
            complete,
        };
        let line = line(&VmConfig { scratch: None, layers: Some(layers), ..config() }, Vec::new());
        let nodes: Vec<serde_json::Value> =
            values(&line, "-blockdev").iter().map(|value| serde_json::from_str(value).unwrap()).collect();
        let nodes: Vec<_> = nodes.iter().filter(|node| node["driver"] == "qcow2").collect();
        let below: Vec<_> = nodes.iter().map(|node| (node["node-name"].as_str().unwrap(), &node["backing"])).collect();
        let null = &serde_json::Value::Null;
        assert_eq!(
            below,
            [("kept0", null), ("kept1", &"kept0".into()), ("scratch0", &"kept1".into()), ("scratch1", null)]
        );
        assert_eq!((&nodes[1]["read-only"], &nodes[1]["file"]["read-only"]), (&true.into(), &true.into()));
        assert!(values(&line, "-device").iter().any(|device| device.contains("drive=scratch0,serial=scratch,")));
    }

    #[test]
    fn a_share_has_its_channel_and_memory_that_its_server_can_map() {
        let mut config = config();
        assert!(values(&line(&config, Vec::new()), "-object").is_empty());
        config.staging_share = Some("/staging".into());
        let line = line(&config, vec![17]);
        assert!(values(&line, "-chardev").contains(&"socket,id=staging,fd=17"));
        assert!(values(&line, "-machine")[0].ends_with(",memory-backend=memory"));
        assert_eq!(values(&line, "-object"), ["memory-backend-memfd,id=memory,size=1024M,share=on"]);
    }

    #[test]
    fn a_network_port_is_there_only_with_a_network() {
        let with = Channels { monitor: 10, console: 11, control: 12, network: Some(13), shares: Vec::new() };
        let line = arguments(&config(), Accelerator::Kvm, &with);
        assert!(line.iter().any(|argument| argument == "virtserialport,chardev=network,name=org.particle-vm.network"));
        assert!(line.iter().any(|argument| argument == "kvm"));
    }
}
