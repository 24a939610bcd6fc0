# For a gateway that is PID 1. Works without /dev/null and without a place to write.
. /harness/lib.sh

tries=100
until /onemcp health clock --port 3050 && /onemcp health notes --port 3050; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail "never ready"
    $bb usleep 100000
done
# The orphans live for a second; a hundred calls meanwhile, each from one more process.
count=0
while [ "$count" -lt 100 ]; do
    count=$((count + 1))
    out=$(/onemcp call clock/now --url "$url")
    objects
done
# Each start of the server leaves as many again.
$bb usleep 1500000
out=$(/onemcp call notes/add_note --url "$url" --args '{"title":"a","text":"b"}')
objects
echo "100 calls beside 40 orphans"
