# A server that leaves 40 orphans, half of them in sessions of their own. Without /dev/null there
# is no `&` in this shell: the second half of each pipe kills the parent of the first.
count=0
while [ "$count" -lt 20 ]; do
    count=$((count + 1))
    /bin/busybox sh -c '/bin/busybox sleep 1 | kill -9 $$'
    /bin/busybox sh -c '/bin/busybox setsid /bin/busybox sleep 1 | kill -9 $$'
done
exec /onemcp demo-server clock
