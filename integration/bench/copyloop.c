//go:build ignore

/*
 * copyloop: the floor. What anything on TAP devices costs at least: one read and one write per frame, in C, nothing decided.
 *
 *   copyloop TAP TAP            two arms: each frame of one is written to the other, both ways, a thread each
 *   copyloop TAP OWN-MAC MAC    one arm: each frame to OWN-MAC is written back to MAC, as direct routing would
 *
 * Devices are opened as tapdirector opens them (virtio-net header, all offloads), with one queue, and must be up before frames flow. It ends when it is killed.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { vnet_len = 10, buffer_len = vnet_len + 14 + 4 + 40 + 65535 };

struct way {
	int from, to;
	int rewrite;
	unsigned char own[6], mac[6];
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int open_tap(const char *name)
{
	struct ifreq r = {0};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("/dev/net/tun");
	strncpy(r.ifr_name, name, IFNAMSIZ - 1);
	r.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if (ioctl(fd, TUNSETIFF, &r) < 0)
		die(name);
	if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | 0x20 | 0x40) < 0 && /* TUN_F_USO4, TUN_F_USO6 */
	    ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0)
		die("TUNSETOFFLOAD");
	return fd;
}

static void *copy(void *arg)
{
	struct way *w = arg;
	static __thread unsigned char b[buffer_len];
	unsigned char *eth = b + vnet_len;

	for (;;) {
		ssize_t n = read(w->from, b, sizeof b);
		if (n < vnet_len + 14)
			continue;
		if (w->rewrite) {
			if (memcmp(eth, w->own, 6))
				continue;
			memcpy(eth, w->mac, 6);
			memcpy(eth + 6, w->own, 6);
		}
		if (write(w->to, b, n) < 0)
			continue;
	}
	return NULL;
}

static void parse_mac(const char *s, unsigned char *m)
{
	if (sscanf(s, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", m, m + 1, m + 2, m + 3, m + 4, m + 5) != 6) {
		fprintf(stderr, "copyloop: %s: not a MAC\n", s);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	struct way ways[2] = {{0}};
	pthread_t t;

	if (argc == 4) {
		ways[0].from = ways[0].to = open_tap(argv[1]);
		ways[0].rewrite = 1;
		parse_mac(argv[2], ways[0].own);
		parse_mac(argv[3], ways[0].mac);
	} else if (argc == 3) {
		ways[0].from = ways[1].to = open_tap(argv[1]);
		ways[0].to = ways[1].from = open_tap(argv[2]);
		if (pthread_create(&t, NULL, copy, &ways[1]))
			die("pthread_create");
	} else {
		fprintf(stderr, "usage: copyloop TAP TAP | copyloop TAP OWN-MAC MAC\n");
		return 2;
	}
	puts("ready");
	fflush(stdout);
	copy(&ways[0]);
	return 0;
}
