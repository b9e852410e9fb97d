//! `maglica.conf`.
//!
//! Input: the text.

use std::path::Path;

use maglica_proto::config::Config;

use crate::input::text;

/// Reads it twice.
pub fn check(data: &[u8]) {
    let text = text(data);
    let path = Path::new("/etc/maglica.conf");
    let said = |result: Result<Config, maglica_proto::config::ConfigError>| result.map_err(|error| error.to_string());
    let (first, second) = (said(Config::from_yaml(&text, path)), said(Config::from_yaml(&text, path)));
    assert_eq!(first, second, "the same text says two things");
    match first {
        Err(error) => assert!(error.starts_with(&path.display().to_string()), "an error without its file: {error}"),
        Ok(config) => {
            assert!(config.timing.heartbeat < config.timing.suspect && config.timing.suspect < config.timing.down);
            assert!(config.state_dir.is_absolute() && config.run_dir.is_absolute());
            assert!(config.host.jobs > 0 && config.listen.max_connections > 0 && !config.jobs.keep.is_zero());
            assert_ne!(config.listen.pub_addr(), config.listen.rep_addr());
            assert_ne!(config.client.pub_addr(), config.client.rep_addr());
            assert!(config.libvirt.uri().contains(":///"));
            assert!(config.hosts.iter().all(|host| host.weight > 0 && config.weight(&host.name) == host.weight));
        }
    }
}
