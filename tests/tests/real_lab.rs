//! Several complete hosts: who gets a job, what one host that is off, hangs or is cut off does to the others and to its own jobs,
//! power cuts and cables, and what is done on a host with libvirt's own tools.

use std::time::{Duration, Instant};

use maglica_tests::{
    command::finish,
    lab::{IMAGE, Lab},
    wait::{SOON, wait_until, when},
};

/// Far above what a command takes, which is some milliseconds, and far below any time limit that one could run into.
const PROMPT: Duration = Duration::from_secs(2);

fn clone<'a>(name: &'a str, host: &'a str) -> Vec<&'a str> {
    vec!["vm", "clone", "--image", IMAGE, "--hostname", name, "--on", host, "--no-customize", "--no-start"]
}

#[test]
fn real_host1_never_hears_of_a_job_of_host10() {
    let lab = Lab::up(1, None);
    lab.host("start", "host10");
    lab.define("host1", "one");
    lab.define("host10", "ten");
    lab.wait_vm("one", "off");
    lab.wait_vm("ten", "off");
    let jobs = [("one", "host1", "host10"), ("ten", "host10", "host1")].map(|(vm, host, other)| {
        let id = lab.submit(&["vm", "start", vm]);
        assert_eq!(lab.wait_job(&id, "succeeded")["host"], host);
        (id, vm, host, other)
    });
    for (id, vm, host, other) in jobs {
        assert!(lab.log(host, "host-worker").contains(&id), "{id} is {host}'s");
        assert!(!lab.log(other, "host-worker").contains(&id), "{id} is not {other}'s");
        assert_eq!(lab.lines(host, &["list", "--name"]), [vm]);
    }
}

#[test]
fn real_a_job_for_a_host_that_is_off_waits_and_is_cancelled_or_done_when_it_returns() {
    let lab = Lab::up(2, None);
    lab.define("host2", "vm0");
    lab.define("host2", "vm1");
    lab.wait_vm("vm1", "off");
    lab.host("kill", "host2");
    lab.wait_presence("host2", "down");
    let (wanted, unwanted) = (lab.submit(&["vm", "start", "vm0"]), lab.submit(&["vm", "start", "vm1"]));
    // As somebody sees it who waits for it.
    let watching = lab.cli_spawn(&["job", "wait", &wanted, "--timeout", "1s"]);
    for id in [&wanted, &unwanted] {
        let state = lab.job(id)["state"].clone();
        assert!(state == "queued" || state == "offered", "{state}");
    }
    let said = finish(watching).ended_with(11);
    assert!(said.stderr.contains("host2"), "{said:?}");
    let shown = lab.cli(&["vm", "list"]).ended_with(3);
    assert!(shown.stdout.contains("vm0") && shown.stderr.contains("host2: down since"), "{shown:?}");
    lab.cli(&["job", "cancel", &unwanted]).ok();
    lab.wait_job(&unwanted, "cancelled");
    lab.host("start", "host2");
    lab.wait_job(&wanted, "succeeded");
    lab.wait_vm("vm0", "running");
    assert_eq!(lab.lines("host2", &["list", "--name"]), ["vm0"], "vm1 is not wanted any more");
    assert_eq!(lab.job(&unwanted)["state"], "cancelled");
}

#[test]
fn real_one_host_that_hangs_or_is_cut_off_slows_no_command() {
    let lab = Lab::up(3, Some(4));
    lab.define("host1", "vm1");
    lab.define("host2", "vm2");
    lab.wait_vm("vm1", "off");
    lab.wait_vm("vm2", "off");
    // At once, while nobody can know yet, and when it counts as down.
    for (verb, back) in [("pause", "resume"), ("cut", "heal")] {
        lab.host(verb, "host2");
        for presence in ["up", "down"] {
            if presence == "down" {
                lab.wait_presence("host2", presence);
            }
            for command in [
                vec!["host", "list"],
                vec!["vm", "list"],
                vec!["image", "list"],
                vec!["vm", "show", "vm2"],
                vec!["job", "list"],
                vec!["vm", "start", "vm1"],
                vec!["vm", "destroy", "vm1"],
            ] {
                let began = Instant::now();
                let output = lab.cli(&command);
                let took = began.elapsed();
                // 3: complete, but for what the silent host would say.
                assert!([0, 3].contains(&output.code), "{command:?}: {output:?}");
                assert!(took < PROMPT, "{command:?} took {took:?} with host2 {verb} and {presence}");
            }
        }
        // A clone goes to a host that can take it.
        let name = format!("clone-{verb}");
        lab.cli(&["vm", "clone", "--image", IMAGE, "--hostname", &name, "--no-customize", "--no-start"]).ok();
        assert_ne!(lab.vm(&name)["host"], "host2");
        lab.host(back, "host2");
        lab.wait_presence("host2", "up");
    }
    lab.cli(&["vm", "start", "vm2"]).ok();
}

#[test]
fn real_clones_on_several_hosts_at_once_are_made_there_and_nowhere_else() {
    let lab = Lab::up(3, Some(8));
    let before = ["host1", "host2", "host3"].map(|host| lab.look(host));
    let commands = [("vm1", "host1"), ("vm2", "host2"), ("vm3", "host3")];
    for running in commands.map(|(vm, host)| lab.cli_spawn(&clone(vm, host))) {
        let _ = finish(running).ok();
    }
    for ((vm, host), before) in commands.into_iter().zip(&before) {
        assert_eq!(lab.vm(vm)["host"], host);
        let mut expected = before.clone();
        expected.extend([vm.to_owned(), format!("{vm}.qcow2 /var/lib/libvirt/images/{vm}.qcow2")]);
        expected.sort_unstable();
        let mut seen = lab.look(host);
        seen.sort_unstable();
        assert_eq!(seen, expected, "{host}");
    }
    // Nobody says where: each goes where the fewest are, and those that run count.
    for (vm, _) in commands {
        let _ = lab.cli(&["vm", "remove", vm, "--yes"]).ok();
    }
    let mut hosts: Vec<String> = ["vm1", "vm2", "vm3"]
        .map(|vm| {
            lab.cli(&["vm", "clone", "--image", IMAGE, "--hostname", vm, "--no-customize"]).ok();
            lab.vm(vm)["host"].as_str().unwrap_or_default().to_owned()
        })
        .to_vec();
    hosts.sort_unstable();
    assert_eq!(hosts, ["host1", "host2", "host3"]);
}

#[test]
fn real_a_power_cut_in_the_middle_of_a_clone_leaves_nothing_and_ends_the_job() {
    let lab = Lab::up(1, Some(300));
    let before = lab.look("host1");
    let id = lab.submit(&clone("vm0", "host1"));
    lab.stall_copy("host1");
    lab.host("kill", "host1");
    lab.wait_job(&id, "lost");
    lab.host("start", "host1");
    let job = lab.wait_job(&id, "failed");
    assert!(lab.vm("vm0").is_null(), "{job}");
    assert_eq!(lab.look("host1"), before, "{job}");
    // The name is free, and the host fit for use.
    let _ = lab.cli(&clone("vm0", "host1")).ok();
    assert_eq!(lab.vm("vm0")["state"], "off");
}

#[test]
fn real_a_job_goes_on_while_its_host_is_cut_off_and_its_end_is_heard_afterwards() {
    let lab = Lab::up(1, Some(300));
    let id = lab.submit(&clone("vm0", "host1"));
    lab.stall_copy("host1");
    lab.host("cut", "host1");
    lab.wait_job(&id, "lost");
    let _ = lab.exec("host1", &["pkill", "-CONT", "-x", "qemu-img"]).ok();
    wait_until("the clone is made without anybody hearing of it", SOON, || {
        let names = lab.lines("host1", &["list", "--all", "--name"]);
        when(names.iter().any(|name| name == "vm0"), names)
    });
    assert!(lab.vm("vm0").is_null());
    lab.host("heal", "host1");
    let job = lab.wait_job(&id, "succeeded");
    lab.wait_vm("vm0", "off");
    let told = job["events"].as_array().into_iter().flatten();
    let events: Vec<&str> = told.filter_map(|row| row["what"]["event"].as_str()).collect();
    for (event, times) in [("granted", 1), ("lost", 1), ("found", 1), ("ended", 1)] {
        assert_eq!(events.iter().filter(|seen| **seen == event).count(), times, "{event}: {job:#}");
    }
}

#[test]
fn real_what_virsh_does_on_a_host_shows_within_a_second_also_after_a_restart_of_libvirtd() {
    let lab = Lab::up(2, None);
    let shows = |host: &str, arguments: &[&str], state: &str| {
        let _ = lab.virsh(host, arguments);
        let began = Instant::now();
        lab.wait_vm("vm0", state);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "virsh {arguments:?} showed after {took:?}");
    };
    lab.define("host2", "vm0");
    lab.wait_vm("vm0", "off");
    shows("host2", &["start", "vm0"], "running");
    shows("host2", &["suspend", "vm0"], "paused");
    shows("host2", &["resume", "vm0"], "running");
    let before = lab.exec("host2", &["pidof", "libvirtd"]).ok().stdout;
    let _ = lab.exec("host2", &["pkill", "-x", "libvirtd"]).ok();
    wait_until("another libvirtd answers", SOON, || {
        let now = lab.exec("host2", &["pidof", "libvirtd"]);
        let answers = lab.run(&["virsh", "host2", "-q", "list"]);
        when(now.code == 0 && now.stdout != before && answers.code == 0, (now, answers))
    });
    // The machine went on, and nobody thinks otherwise.
    assert_eq!(lab.vm("vm0")["state"], "running");
    wait_until("the host worker listens again", SOON, || {
        let log = lab.log("host2", "host-worker");
        when(log.contains("connected to libvirt again"), log)
    });
    shows("host2", &["destroy", "vm0"], "off");
    // Only for the next start, of which libvirt tells nobody.
    let _ = lab.virsh("host2", &["setmaxmem", "vm0", "64M", "--config"]);
    let _ = lab.virsh("host2", &["autostart", "vm0"]);
    wait_until("what is for the next start shows", SOON, || {
        let vm = lab.cli(&["vm", "show", "vm0", "-o", "json"]).ok().json();
        when(vm["memory"] == 64 << 20 && vm["autostart"] == true, vm)
    });
    let _ = lab.virsh("host2", &["undefine", "vm0"]);
    wait_until("it is gone", Duration::from_secs(1), || {
        let vm = lab.vm("vm0");
        when(vm.is_null(), vm)
    });
}
