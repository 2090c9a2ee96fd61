# bash completion for megastream_ingest
# Generated from the table of options; changes here are lost.

_megastream_ingest() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    # `=` is a word of its own.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $prev in
        --mode) mapfile -t COMPREPLY < <(compgen -W 'once spool' -- "$cur"); return ;;
        --output) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --replay) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --source) mapfile -t COMPREPLY < <(compgen -W 'local s3' -- "$cur"); return ;;
        --s3-addressing) mapfile -t COMPREPLY < <(compgen -W 'auto path virtual' -- "$cur"); return ;;
        --from) :; return ;;
        --to) :; return ;;
        --limit) :; return ;;
        --shard) :; return ;;
        --username) :; return ;;
        --aws-sigv4) mapfile -t COMPREPLY < <(compgen -W 'es aoss' -- "$cur"); return ;;
        --ca-cert) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --ca-fingerprint) :; return ;;
        --client-cert) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --client-key) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --proxy) :; return ;;
        --posts-index) :; return ;;
        --tombstones-index) :; return ;;
        --pipeline) :; return ;;
        --exclude-field) :; return ;;
        --add-field) :; return ;;
        --vector-encoding) mapfile -t COMPREPLY < <(compgen -W 'auto base64 array' -- "$cur"); return ;;
        --max-rejected) :; return ;;
        --retry-budget) :; return ;;
        --workers) :; return ;;
        --senders) :; return ;;
        --batch-docs) :; return ;;
        --batch-bytes) :; return ;;
        --compress) :; return ;;
        --memory) :; return ;;
        --dead-letter) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --summary-json) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --metrics-file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --listen) :; return ;;
    esac
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '--mode --dry-run --output --check --list --json --verify --repair --replay --source --s3-anonymous --s3-addressing --from --to --limit --shard --retry-failed --username --aws-sigv4 --no-auth --ca-cert --ca-fingerprint --client-cert --client-key --proxy --skip-tls-verify --create-indices --posts-index --tombstones-index --pipeline --exclude-field --add-field --vector-encoding --max-rejected --account-deletions --bulk-load-settings --retry-budget --workers --senders --batch-docs --batch-bytes --compress --memory --dead-letter --summary-json --metrics-file --listen --quiet --help --version' -- "$cur")
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -d -- "$cur"; compgen -f -X '!*.db.zip' -- "$cur")
    fi
}
complete -F _megastream_ingest megastream_ingest
