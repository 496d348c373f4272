# A job as one run of a benchmark, sourced by the scripts beside it: finished runs are skipped, cut ones go on.
# Needs $sightline and $runs.

job() { # name job [key=value ...]
  local name=$1 job=$2
  shift 2
  "$sightline" "$job" out="$runs/$name" threads=1 resume=auto "$@" >>"$runs/$name.log" 2>&1 ||
    { echo "$name failed: $(tail -n 1 "$runs/$name.log")"; return 1; }
  echo "$(date +%H:%M:%S) $name"
}
export -f job
