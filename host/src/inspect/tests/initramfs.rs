//! Initramfs of every kind.

use super::super::initramfs::read;
use super::make::{Image, Item, KERNEL, bootc_initramfs, initramfs, ostree_initramfs};
use super::*;
use std::io::Write;

fn look(bytes: &[u8]) -> Initramfs {
    read(&mut &*bytes, bytes.len() as u64, &mut (64 << 20))
}

fn lz4_legacy(bytes: &[u8]) -> Vec<u8> {
    let mut packed = 0x184c_2102_u32.to_le_bytes().to_vec();
    let block = lz4_flex::block::compress(bytes);
    packed.extend_from_slice(&(block.len() as u32).to_le_bytes());
    packed.extend_from_slice(&block);
    packed
}

fn packed(kind: &str, bytes: &[u8]) -> Vec<u8> {
    match kind {
        "none" => bytes.to_vec(),
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(bytes, 3).unwrap(),
        "xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "lzma" => {
            let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
            let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "lz4" => lz4_legacy(bytes),
        other => unreachable!("{other}"),
    }
}

#[test]
fn every_compression_after_microcode() {
    let mut microcode = initramfs(&[("kernel/x86/microcode/GenuineIntel.bin".into(), vec![1; 1000])]);
    microcode.resize(microcode.len().next_multiple_of(512), 0);
    for kind in ["none", "gzip", "zstd", "xz", "lzma", "lz4"] {
        let bytes = [microcode.clone(), packed(kind, &initramfs(&ostree_initramfs()))].concat();
        let found = look(&bytes);
        assert_eq!(found.problem, None, "{kind}");
        assert_eq!((found.compression, found.microcode), (Some(kind), true), "{kind}");
        assert!(found.ostree_prepare_root && found.ostree_unit && found.systemd && !found.bootc_setup, "{kind}");
        assert_eq!(found.dracut_modules, ["systemd", "ostree", "base"]);
        assert_eq!(found.modules.iter().copied().collect::<Vec<_>>(), ["erofs", "overlay", "virtio_blk"]);
        assert_eq!(found.kernels.iter().collect::<Vec<_>>(), [KERNEL]);
        assert_eq!((found.size, found.generator), (bytes.len() as u64, Some("dracut")));
    }
}

#[test]
fn archives_follow_archives() {
    for kind in ["gzip", "zstd", "xz"] {
        let parts = [ostree_initramfs(), bootc_initramfs()].map(|files| packed(kind, &initramfs(&files)));
        let found = look(&[&parts[0][..], &[0; 5], &parts[1]].concat());
        assert_eq!(found.problem, None, "{kind}");
        assert!(found.ostree_prepare_root && found.bootc_setup && found.bootc_unit, "{kind}");
    }
}

#[test]
fn what_is_wrong_is_told_beside_what_was_found() {
    let whole = initramfs(&ostree_initramfs());
    let problem = |bytes: &[u8]| look(bytes).problem.unwrap_or_default();
    assert!(problem(&[&whole[..], b"other"].concat()).contains("neither a cpio archive"));
    assert!(look(&[&whole[..], b"other"].concat()).ostree_prepare_root);
    assert!(!problem(&whole[..whole.len() / 2]).is_empty());
    let half = packed("zstd", &whole);
    assert!(!problem(&half[..half.len() / 2]).is_empty());
    assert!(problem(b"BZh91AY").contains("bzip2"));
    assert!(problem(&packed("gzip", &packed("gzip", &whole))).contains("no cpio archive"));
    assert_eq!(look(b"").problem, None);
}

#[test]
fn bombs_go_off_elsewhere() {
    // 1 GiB of zeros, as one file and as padding, in a megabyte at most.
    let bomb = initramfs(&[("zeros".into(), vec![0; 100 << 20])]);
    let packed_bomb = packed("zstd", &bomb);
    assert!(packed_bomb.len() < 1 << 20);
    let mut budget = 64 << 20;
    let found = read(&mut &packed_bomb[..], packed_bomb.len() as u64, &mut budget);
    assert!(found.problem.unwrap().contains("more than any initramfs"));
    let zeros = packed("zstd", &vec![0; 100 << 20]);
    assert!(look(&zeros).problem.unwrap().contains("more than any initramfs"));
    // Many of them one after the other, and none is too large by itself: they share what there is, with the next file too.
    for (kind, size, count) in [("zstd", 40 << 20, 2), ("gzip", 0, 2000)] {
        let mut budget = 64 << 20;
        let segment = packed(kind, &vec![0; size]);
        let found = read(&mut &segment.repeat(count)[..], 0, &mut budget);
        assert!(found.problem.unwrap().contains("more than any initramfs"), "{kind}");
        assert_eq!(budget, 0);
        assert!(read(&mut &segment[..], 0, &mut budget).problem.is_some());
    }
    // A name of 4 GiB.
    let mut long = initramfs(&[("x".into(), vec![])]);
    long[94..102].copy_from_slice(b"FFFFFFFF");
    assert!(look(&long).problem.unwrap().contains("header is broken"));
}

#[test]
fn what_is_told_of_kernels_has_a_measure() {
    let long = "v".repeat(300);
    let found = look(&initramfs(&[
        (format!("usr/lib/modules/{long}/x.ko"), vec![]),
        ("usr/lib/dracut/modules.txt".into(), b"m ".repeat(5000)),
    ]));
    assert!(found.kernels.is_empty());
    assert_eq!(found.dracut_modules.len(), limits::FILES);

    let whole = uki(&[(".uname", long.as_bytes()), (".linux", &[7; 10])]);
    let report = report_of(Image::ostree(), |image| {
        image.add("boot/EFI/Linux/x.efi", Item::File(whole));
        for number in 0..200 {
            image.file(&format!("usr/lib/modules/5.{number:03}/vmlinuz"), "");
            let builtin = Item::Link("../5.000/modules.builtin");
            image.add(&format!("usr/lib/modules/5.{number:03}/modules.builtin"), builtin);
            image.file(&format!("boot/vmlinuz-4.{number}"), "");
            image.file(&format!("boot/initrd.img-5.{number:03}"), "");
        }
        image.file("usr/lib/modules/5.000/modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/a.ko\n");
    });
    let kernels = &report.facts.kernels;
    assert_eq!(kernels.len(), limits::KERNELS);
    assert!(kernels.iter().all(|kernel| kernel.version.starts_with("5.") && kernel.uki.is_none()));
    // Of drivers those that are asked for.
    assert_eq!(kernels[1].builtin.as_ref().unwrap().iter().collect::<Vec<_>>(), [&"ext4"]);
    let read = kernels.iter().filter(|kernel| kernel.initramfs.as_ref().unwrap().problem.is_none());
    // One of them was the unified one.
    assert_eq!(read.count(), limits::KERNELS - 1);
}

#[test]
fn configurations_that_many_links_lead_to_are_read_a_few_times() {
    let report = report_of(Image::ostree(), |image| {
        image.file("usr/lib/bootc/kargs.d/0.toml", "kargs = [\"a\"]");
        image.file("usr/lib/bootc/install/0.toml", "[install]\nkargs = [\"a\"]");
        image.file("usr/lib/bootupd/updates/0.json", "{\"version\":\"1\"}");
        for number in 1..500 {
            image.add(&format!("usr/lib/bootc/kargs.d/{number}.toml"), Item::Link("0.toml"));
            image.add(&format!("usr/lib/bootc/install/{number}.toml"), Item::Link("0.toml"));
            image.add(&format!("usr/lib/bootupd/updates/{number}.json"), Item::Link("0.json"));
        }
    });
    let facts = &report.facts;
    assert_eq!(facts.bootc.kargs.len(), limits::CONFIGS);
    assert_eq!(facts.bootc.install["kargs"].as_array().unwrap().len(), limits::CONFIGS);
    assert_eq!(facts.bootupd.components.len(), limits::CONFIGS);
}

#[test]
fn a_unified_kernel_image_is_looked_into() {
    let whole = uki(&[
        (".uname", b"6.12.1-amd64\n"),
        (".cmdline", b"root=auto rw\0"),
        (".linux", &[7; 3000]),
        (".initrd", &packed("zstd", &initramfs(&bootc_initramfs()))),
    ]);
    let report = report_of(Image::composefs(), |image| {
        image.remove(&format!("usr/lib/modules/{KERNEL}/vmlinuz"));
        image.remove(&format!("usr/lib/modules/{KERNEL}/initramfs.img"));
        image.add(&format!("boot/EFI/Linux/{KERNEL}.efi"), Item::File(whole));
    });
    assert_eq!(report.engine.candidate, Engine::Bootc, "{:#?}", report.findings);
    assert!(report.engine.reason.contains("unified"));
    let [kernel] = &report.facts.kernels[..] else { panic!("{:#?}", report.facts.kernels) };
    assert_eq!(kernel.uki.as_ref().unwrap().cmdline.as_deref(), Some("root=auto rw"));
    assert!(kernel.initramfs.as_ref().unwrap().bootc_setup);
    assert_eq!(codes(&report, Severity::Warning), [""; 0], "{:#?}", report.findings);
    assert_eq!((report.engine.name, report.engine.backend), (Engine::Bootc, Some(Backend::Composefs)));
    // A program for UEFI that is no kernel.
    let report = report_of(Image::composefs(), |image| {
        image.add("boot/EFI/Linux/x.efi", Item::File(uki(&[(".text", b"x")])));
    });
    assert!(report.facts.kernels.iter().all(|kernel| kernel.uki.is_none()));
}

/// A PE file with these sections (PE Format, Microsoft): headers, then each section at a multiple of 512 bytes.
fn uki(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut headers = b"MZ".to_vec();
    headers.resize(60, 0);
    headers.extend_from_slice(&64_u32.to_le_bytes());
    headers.extend_from_slice(b"PE\0\0\x64\x86");
    headers.extend_from_slice(&(sections.len() as u16).to_le_bytes());
    headers.extend_from_slice(&[0; 12]);
    headers.extend_from_slice(&240_u16.to_le_bytes());
    headers.extend_from_slice(&[0; 2]);
    let optional = headers.len();
    headers.extend_from_slice(&0x20b_u16.to_le_bytes());
    headers.resize(optional + 108, 0);
    headers.extend_from_slice(&16_u32.to_le_bytes());
    headers.resize(optional + 240, 0);
    let mut bodies = Vec::new();
    for (name, content) in sections {
        let mut raw = name.as_bytes().to_vec();
        raw.resize(8, 0);
        headers.extend_from_slice(&raw);
        let stored = content.len().next_multiple_of(512);
        let start = 4096 + bodies.len();
        for number in [content.len(), start, stored, start] {
            headers.extend_from_slice(&(number as u32).to_le_bytes());
        }
        headers.extend_from_slice(&[0; 16]);
        bodies.extend_from_slice(content);
        bodies.resize(bodies.len().next_multiple_of(512), 0);
    }
    headers.resize(4096, 0);
    [headers, bodies].concat()
}
