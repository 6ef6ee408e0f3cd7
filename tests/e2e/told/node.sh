# Runs on the node for as long as its input stays open, and keeps what would go with its pod: the
# logs of every container, by hard links, and the words of all command lines and environments.
folder=/var/log/told
rm -rf "$folder" && mkdir -p "$folder/logs" && cd "$folder" && touch words || exit 1
export LC_ALL=C
while :; do
	cp -aln /var/log/pods/. logs/ 2>/dev/null
	cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null |
		tr '\0' '\n' | sort -u - words >words.new && mv words.new words
	read -r -t 1 _
	[ $? -gt 128 ] || break # 1: the input has been closed
done
