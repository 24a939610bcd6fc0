# bash completion for onemcp.
# Written by fixtures/manual from the tables of the command line.
_onemcp() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command='' index
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${COMP_WORDS[index]} in
        -*) ;;
        serve | demo | config | validate | list | call | proxy | status | servers | wait | logs | restart | enable | disable | reload | drain | pins | health | alerts | audit | secret | key | auth | help | version)
            command=${COMP_WORDS[index]}
            break
            ;;
        esac
    done
    local settings='--config --config-dir --config-json --environment --transport --host --port --filter --preset --log-level --log-format --allowed-hosts --allowed-origins --allow-unauthenticated --enable-auth --auth --enable-scope-validation --auth-issuers --auth-baseline-scopes --auth-untagged-tag --auth-keys --auth-api-key-file --session-ttl --auth-rate-limit --auth-concurrency --rate-limit-window --rate-limit-max --external-url --tls-cert --tls-key --tls-client-ca --behind-tls-proxy --replica-keys --replica-name --replica-peers --auth-operator-password --auth-login-code --max-body-bytes --naming-separator --naming-prefix --naming-max-length --tool-pins --strip-invisible --page-size --health-info-level --ready-policy --health-listen --enable-async-loading --async-batch-delay --async-max-delay --async-batch-notifications --async-notify-on-snapshot --async-notify-on-ready --sync-start-timeout --max-concurrent-starts --drain-delay --shutdown-timeout --control-socket --enable-config-reload --config-reload-debounce --state-dir --store --trust-proxy --egress-allow --roots --parking-timeout --log-modules --log-file --log-max-size --log-max-files --log-arguments --server-log-dir --enable-metrics --metrics-public --enable-traces --enable-otlp-metrics --otlp-endpoint --otlp-headers --otlp-interval --otlp-trace-percent --enable-alerts --alerts --discovery --auth-server --auth-registration --auth-registration-token --auth-clients --auth-client-metadata --auth-require-resource --secrets-providers --secrets-dir --secrets-file --secrets-key-file --secrets-refresh --enable-env-substitution --enable-client-notifications --enable-sse --audit-sinks --audit-file --audit-max-size --audit-max-files --audit-key-file --audit-on-failure --audit-syslog --audit-webhook --audit-webhook-headers --audit-arguments --help --version'
    local flags=$settings verbs='' choices=''
    case $command in
    config) verbs='check show diff schema import' flags="--origin --json --from --write --show-secrets $settings" ;;
    validate) verbs='' flags="--origin --json --from --write --show-secrets $settings" ;;
    list) verbs='' flags="--url --ca-file --header --timeout $settings" ;;
    call) verbs='' flags="--args --url --ca-file --header --timeout $settings" ;;
    proxy) verbs='' flags="--url --ca-file --header --timeout --tags --tag-filter --preset $settings" ;;
    status) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    servers) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    wait) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    logs) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    restart) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    enable) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    disable) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    reload) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    drain) verbs='' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    pins) verbs='diff approve' flags="--socket --json --watch --all --follow --timeout $settings" ;;
    health) verbs='' flags="--ready --live --startup --socket --ca-file --timeout $settings" ;;
    alerts) verbs='list test' flags=" $settings" ;;
    audit) verbs='verify' flags="--public-key --head --partial --open --mixed --json $settings" ;;
    secret) verbs='set get list rm rotate key' flags="--json --new-key-file $settings" ;;
    key) verbs='create list revoke' flags="--scopes --expires --json $settings" ;;
    auth) verbs='password approve clients tokens revoke login logout status' flags="--principal --loopback --paste --socket --json --watch --all --follow --timeout $settings" ;;
    help) verbs='serve demo config validate list call proxy status servers wait logs restart enable disable reload drain pins health alerts audit secret key auth help version' flags=" $settings" ;;
    '') verbs='serve demo config validate list call proxy status servers wait logs restart enable disable reload drain pins health alerts audit secret key auth help version' ;;
    esac
    case $before in
    --transport) choices='http stdio' ;;
    --log-level) choices='debug info warn error' ;;
    --log-format) choices='text json' ;;
    --naming-prefix) choices='always never' ;;
    --tool-pins) choices='off warn block' ;;
    --strip-invisible) choices='off flag strip' ;;
    --health-info-level) choices='auto full basic minimal' ;;
    --ready-policy) choices='required all any none' ;;
    --auth-server) choices='on off' ;;
    --auth-registration) choices='off token open' ;;
    --audit-on-failure) choices='drop block' ;;
    -c | -d | --config | --config-dir | --auth-keys | --auth-api-key-file | --tls-cert | --tls-key | --tls-client-ca | --replica-keys | --control-socket | --state-dir | --log-file | --server-log-dir | --secrets-dir | --secrets-file | --secrets-key-file | --audit-file | --audit-key-file | --audit-syslog | --from | --ca-file | --socket | --new-key-file)
        COMPREPLY=($(compgen -f -- "$word"))
        return
        ;;
    esac
    if [ -n "$choices" ]; then
        COMPREPLY=($(compgen -W "$choices" -- "$word"))
        return
    fi
    case $word in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$word")) ;;
    *)
        COMPREPLY=($(compgen -W "$verbs" -- "$word"))
        [ -n "$command" ] && COMPREPLY+=($(compgen -f -- "$word"))
        ;;
    esac
}
complete -o filenames -F _onemcp onemcp
