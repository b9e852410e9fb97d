//! Groups whose machines are kept apart, with the real libvirt: the group is where it cannot be lost, in the machine's description.

use maglica_tests::{
    cloud::host_name,
    libvirt::{Rig, virsh},
};

#[test]
fn real_a_group_is_kept_with_the_machine_and_known_again_after_everything_restarted() {
    let rig = Rig::blank(4);
    let mut cloud = rig.cloud().start();
    let (first, second) = (rig.name("web1"), rig.name("web2"));
    let options = ["--no-customize", "--no-start", "--anti-affinity", "web"];
    let clone = rig.clone_of(&first, &options);
    cloud.cli(&clone.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert!(virsh(&["dumpxml", &first]).contains("<maglica:anti-affinity>web</maglica:anti-affinity>"));
    let why = cloud.cli(&["why", &first]).ok().stdout;
    assert!(why.contains(&format!("chosen {}", host_name(0))), "{why}");

    // The client worker knows of groups by what hosts say.
    cloud.hosts[0].stop();
    cloud.client_worker.restart();
    cloud.hosts[0].start();
    cloud.wait_up(0);
    let again = rig.clone_of(&second, &options);
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    cloud.cli(&again).ended_with(7).says(&[&format!("{first} of the group web is there")], &[]);
    let dry = cloud.cli(&[again.as_slice(), &["--dry-run", "-o", "json"]].concat()).ended_with(7).json();
    assert_eq!(dry["considered"][0]["verdict"]["verdict"], "refused", "{dry:#}");
    let other = rig.clone_of(&second, &["--no-customize", "--dry-run", "--anti-affinity", "db"]);
    let fits = cloud.cli(&other.iter().map(String::as_str).collect::<Vec<_>>()).ok().stdout;
    let row: Vec<&str> = fits.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[1]), (host_name(0).as_str(), "chosen"), "{fits}");
    assert!(fits.contains(&rig.pool()), "the pool with the image is named: {fits}");
    cloud.cli(&["vm", "remove", &first, "--yes"]).ok();
}
