use super::*;

fn service(rhythm: Rhythm, scope: Scope, targets: &[&str]) -> Service {
    Service {
        program: "/opt/smart sync/smart-sync".to_owned(),
        global: ["--config", "/etc/100%/config.toml"].map(str::to_owned).to_vec(),
        named: None,
        targets: targets.iter().map(|target| (*target).to_owned()).collect(),
        state_dir: "/var/lib/smart-sync".to_owned(),
        rhythm,
        scope,
    }
}

fn text(service: &Service) -> String {
    let units = service.units();
    let texts = units.iter().map(|unit| format!("-- {}\n{}", unit.name, unit.text()));
    texts.collect::<Vec<_>>().concat()
}

#[test]
fn a_machine_watches_and_settles_what_is_left_when_it_starts() {
    let service = service(Rhythm::Watch, Scope::System, &["/etc/nixos", "/srv/my site"]);
    insta::assert_snapshot!(text(&service), @r#"
    -- smart-sync-watch.service
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Keep directories equal to what is published
    Wants=network-online.target
    After=network-online.target smart-sync-recover.service

    [Service]
    Type=notify
    ExecStart="/opt/smart sync/smart-sync" --config /etc/100%%/config.toml watch
    Restart=on-failure
    RestartSec=30s
    RestartPreventExitStatus=4 6
    SuccessExitStatus=130
    KillMode=mixed
    OOMPolicy=continue
    LimitCORE=0
    KeyringMode=private
    RestrictRealtime=yes

    [Install]
    WantedBy=multi-user.target
    -- smart-sync-recover.service
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Settle what an interrupted update left
    Before=smart-sync-watch.service multi-user.target
    RequiresMountsFor=/var/lib/smart-sync /etc/nixos "/srv/my site"

    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart="/opt/smart sync/smart-sync" --config /etc/100%%/config.toml recover
    SuccessExitStatus=8 12
    KillMode=mixed
    OOMPolicy=continue
    LimitCORE=0
    KeyringMode=private
    RestrictRealtime=yes

    [Install]
    WantedBy=multi-user.target
    "#);
}

#[test]
fn each_target_has_a_timer_of_its_own() {
    let rhythm = Rhythm::Every(Duration::from_secs(900));
    let service = service(rhythm, Scope::System, &["/srv/a b", "/srv/a-b", "/watch"]);
    insta::assert_snapshot!(text(&service), @r#"
    -- smart-sync-srv-a-b.service
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Bring /srv/a b up to date
    Wants=network-online.target
    After=network-online.target smart-sync-recover.service

    [Service]
    Type=oneshot
    ExecStart="/opt/smart sync/smart-sync" --config /etc/100%%/config.toml --target "/srv/a b"
    SuccessExitStatus=12 130
    KillMode=mixed
    OOMPolicy=continue
    LimitCORE=0
    KeyringMode=private
    RestrictRealtime=yes
    -- smart-sync-srv-a-b.timer
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Bring /srv/a b up to date from time to time

    [Timer]
    OnActiveSec=1min
    OnUnitInactiveSec=900s
    RandomizedDelaySec=90s

    [Install]
    WantedBy=timers.target
    -- smart-sync-srv-a-b-2.service
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Bring /srv/a-b up to date
    Wants=network-online.target
    After=network-online.target smart-sync-recover.service

    [Service]
    Type=oneshot
    ExecStart="/opt/smart sync/smart-sync" --config /etc/100%%/config.toml --target /srv/a-b
    SuccessExitStatus=12 130
    KillMode=mixed
    OOMPolicy=continue
    LimitCORE=0
    KeyringMode=private
    RestrictRealtime=yes
    -- smart-sync-srv-a-b-2.timer
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Bring /srv/a-b up to date from time to time

    [Timer]
    OnActiveSec=1min
    OnUnitInactiveSec=900s
    RandomizedDelaySec=90s

    [Install]
    WantedBy=timers.target
    -- smart-sync-watch-2.service
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Bring /watch up to date
    Wants=network-online.target
    After=network-online.target smart-sync-recover.service

    [Service]
    Type=oneshot
    ExecStart="/opt/smart sync/smart-sync" --config /etc/100%%/config.toml --target /watch
    SuccessExitStatus=12 130
    KillMode=mixed
    OOMPolicy=continue
    LimitCORE=0
    KeyringMode=private
    RestrictRealtime=yes
    -- smart-sync-watch-2.timer
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Bring /watch up to date from time to time

    [Timer]
    OnActiveSec=1min
    OnUnitInactiveSec=900s
    RandomizedDelaySec=90s

    [Install]
    WantedBy=timers.target
    -- smart-sync-recover.service
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Settle what an interrupted update left
    Before=smart-sync-srv-a-b.service smart-sync-srv-a-b-2.service smart-sync-watch-2.service multi-user.target
    RequiresMountsFor=/var/lib/smart-sync "/srv/a b" /srv/a-b /watch

    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart="/opt/smart sync/smart-sync" --config /etc/100%%/config.toml recover
    SuccessExitStatus=8 12
    KillMode=mixed
    OOMPolicy=continue
    LimitCORE=0
    KeyringMode=private
    RestrictRealtime=yes

    [Install]
    WantedBy=multi-user.target
    "#);
}

#[test]
fn the_units_of_a_user_need_none_of_the_machine() {
    let one = Service {
        named: Some("/home/a/$x".to_owned()),
        ..service(Rhythm::Watch, Scope::User, &["/home/a/$x"])
    };
    insta::assert_snapshot!(text(&one), @r#"
    -- smart-sync-watch.service
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Keep directories equal to what is published
    After=smart-sync-recover.service

    [Service]
    Type=notify
    ExecStart="/opt/smart sync/smart-sync" --config /etc/100%%/config.toml watch --target /home/a/$$x
    Restart=on-failure
    RestartSec=30s
    RestartPreventExitStatus=4 6
    SuccessExitStatus=130
    KillMode=mixed
    OOMPolicy=continue
    LimitCORE=0
    KeyringMode=private
    RestrictRealtime=yes

    [Install]
    WantedBy=default.target
    -- smart-sync-recover.service
    # Written by `smart-sync service install`; `smart-sync service remove` removes it.
    [Unit]
    Description=Settle what an interrupted update left
    Before=smart-sync-watch.service

    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart="/opt/smart sync/smart-sync" --config /etc/100%%/config.toml recover --target /home/a/$$x
    SuccessExitStatus=8 12
    KillMode=mixed
    OOMPolicy=continue
    LimitCORE=0
    KeyringMode=private
    RestrictRealtime=yes

    [Install]
    WantedBy=default.target
    "#);
}
