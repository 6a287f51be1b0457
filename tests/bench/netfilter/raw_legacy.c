/* The table nat of x_tables: `everything` copies and walks it, `nothing` asks how large it is. */
#include "common.h"

#include <netinet/in.h>
#include <stddef.h>
#include <sys/mman.h>

#include <linux/netfilter_ipv4/ip_tables.h>

static int fd;
static unsigned chains, rules, jumps, dnats;

static void info(struct ipt_getinfo *info)
{
    socklen_t length = sizeof *info;
    memset(info, 0, sizeof *info);
    strcpy(info->name, "nat");
    if (getsockopt(fd, IPPROTO_IP, IPT_SO_GET_INFO, info, &length))
        fail("IPT_SO_GET_INFO");
}

static void nothing(void)
{
    struct ipt_getinfo ignored;
    info(&ignored);
}

static void entry(const char *at, size_t end)
{
    const struct ipt_entry *entry = (const void *)at;
    const struct xt_entry_target *target = (const void *)(at + entry->target_offset);
    if (!strcmp(target->u.user.name, "ERROR")) {
        chains++;
        return;
    }
    rules++;
    if (!target->u.user.name[0]) {
        int verdict = ((const struct xt_standard_target *)target)->verdict;
        jumps += verdict >= 0 && (size_t)verdict != end;
    } else {
        dnats += !strcmp(target->u.user.name, "DNAT");
    }
}

static void everything(void)
{
    struct ipt_getinfo table;
    info(&table);
    size_t size = sizeof(struct ipt_get_entries) + table.size;
    char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (bytes == MAP_FAILED)
        fail("mmap");
    struct ipt_get_entries *entries = (void *)bytes;
    strcpy(entries->name, "nat");
    entries->size = table.size;
    socklen_t length = size;
    if (getsockopt(fd, IPPROTO_IP, IPT_SO_GET_ENTRIES, entries, &length))
        fail("IPT_SO_GET_ENTRIES");
    chains = rules = jumps = dnats = 0;
    const char *first = bytes + offsetof(struct ipt_get_entries, entrytable);
    for (size_t at = 0; at < table.size;) {
        size_t next = at + ((const struct ipt_entry *)(first + at))->next_offset;
        if (next == at)
            break;
        entry(first + at, next);
        at = next;
    }
    munmap(bytes, size);
}

int main(int count, char **arguments)
{
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0)
        fail("socket");
    serve(count > 1 && !strcmp(arguments[1], "everything") ? everything : nothing);
    fprintf(stderr, "%u chains, %u rules, %u jumps, %u of DNAT\n", chains, rules, jumps, dnats);
    return 0;
}
