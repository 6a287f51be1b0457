/* The table nat of nf_tables: `everything` asks for its chains and for the rules of each, `deciding` for the rules of those
 * that decide, `nothing` for the number of the ruleset. */
#include "common.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#define API "KUBE-SVC-NPX46M4PTMTKRN6Y"

static int fd;
static unsigned sequence, rules, dnats;
static char buffer[64 << 10];
/* Names to be asked for, one after another. */
static char (*names)[32];
static size_t known, room;

static char *data(struct nlattr *attribute)
{
    return (char *)attribute + NLA_HDRLEN;
}

static int length(struct nlattr *attribute)
{
    return attribute->nla_len - NLA_HDRLEN;
}

static struct nlattr *find(void *from, int left, int kind)
{
    for (struct nlattr *at = from; left >= NLA_HDRLEN && at->nla_len >= NLA_HDRLEN && at->nla_len <= left;) {
        if ((at->nla_type & NLA_TYPE_MASK) == kind)
            return at;
        left -= NLA_ALIGN(at->nla_len);
        at = (void *)((char *)at + NLA_ALIGN(at->nla_len));
    }
    return NULL;
}

static struct nlattr *below(struct nlattr *attribute, int kind)
{
    return attribute ? find(data(attribute), length(attribute), kind) : NULL;
}

static void keep(const char *name)
{
    if (known == room) {
        room = room ? room * 2 : 1024;
        names = realloc(names, room * sizeof *names);
        if (!names)
            fail("realloc");
    }
    snprintf(names[known++], sizeof *names, "%s", name);
}

static void on_chain(void *from, int left)
{
    struct nlattr *table = find(from, left, NFTA_CHAIN_TABLE), *name = find(from, left, NFTA_CHAIN_NAME);
    if (table && name && !strcmp(data(table), "nat"))
        keep(data(name));
}

/* The chain that an expression leads to. */
static const char *expression(struct nlattr *one)
{
    struct nlattr *name = below(one, NFTA_EXPR_NAME), *inner = below(one, NFTA_EXPR_DATA);
    if (!name || !inner)
        return NULL;
    if (!strcmp(data(name), "target")) {
        struct nlattr *target = below(inner, 1);
        dnats += target && !strcmp(data(target), "DNAT");
    }
    if (strcmp(data(name), "immediate"))
        return NULL;
    struct nlattr *verdict = below(below(inner, NFTA_IMMEDIATE_DATA), NFTA_DATA_VERDICT);
    struct nlattr *chain = below(verdict, NFTA_VERDICT_CHAIN);
    return chain ? data(chain) : NULL;
}

static void on_rule(void *from, int left, int follows)
{
    rules++;
    struct nlattr *list = find(from, left, NFTA_RULE_EXPRESSIONS);
    if (!list)
        return;
    int rest = length(list);
    for (struct nlattr *one = (void *)data(list); rest >= NLA_HDRLEN && one->nla_len >= NLA_HDRLEN;) {
        const char *chain = expression(one);
        if (chain && follows && (!strncmp(chain, "KUBE-SEP-", 9) || !strncmp(chain, "cali-", 5)))
            keep(chain);
        rest -= NLA_ALIGN(one->nla_len);
        one = (void *)((char *)one + NLA_ALIGN(one->nla_len));
    }
}

static void put(struct nlmsghdr *request, int kind, const char *text)
{
    struct nlattr *attribute = (void *)((char *)request + NLMSG_ALIGN(request->nlmsg_len));
    attribute->nla_type = kind;
    attribute->nla_len = NLA_HDRLEN + strlen(text) + 1;
    strcpy(data(attribute), text);
    request->nlmsg_len = NLMSG_ALIGN(request->nlmsg_len) + NLA_ALIGN(attribute->nla_len);
}

static void ask(int message, int flags, const char *chain, int follows)
{
    static char room_for_request[256];
    struct nlmsghdr *request = (void *)room_for_request;
    memset(room_for_request, 0, sizeof room_for_request);
    request->nlmsg_len = NLMSG_LENGTH(sizeof(struct nfgenmsg));
    request->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | message;
    request->nlmsg_flags = NLM_F_REQUEST | flags;
    request->nlmsg_seq = ++sequence;
    ((struct nfgenmsg *)NLMSG_DATA(request))->nfgen_family = NFPROTO_IPV4;
    if (chain) {
        put(request, NFTA_RULE_TABLE, "nat");
        put(request, NFTA_RULE_CHAIN, chain);
    }
    if (send(fd, request, request->nlmsg_len, 0) < 0)
        fail("send");
    for (;;) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got < 0)
            fail("recv");
        for (struct nlmsghdr *one = (void *)buffer; NLMSG_OK(one, got); one = NLMSG_NEXT(one, got)) {
            if (one->nlmsg_type == NLMSG_DONE || one->nlmsg_type == NLMSG_ERROR)
                return;
            void *from = (char *)NLMSG_DATA(one) + NLMSG_ALIGN(sizeof(struct nfgenmsg));
            int left = one->nlmsg_len - NLMSG_LENGTH(sizeof(struct nfgenmsg));
            if ((one->nlmsg_type & 0xff) == NFT_MSG_NEWCHAIN)
                on_chain(from, left);
            if ((one->nlmsg_type & 0xff) == NFT_MSG_NEWRULE)
                on_rule(from, left, follows);
            if (!(one->nlmsg_flags & NLM_F_MULTI))
                return;
        }
    }
}

static void nothing(void)
{
    ask(NFT_MSG_GETGEN, 0, NULL, 0);
}

static void everything(void)
{
    known = rules = dnats = 0;
    ask(NFT_MSG_GETCHAIN, NLM_F_DUMP, NULL, 0);
    for (size_t next = 0; next < known; next++)
        ask(NFT_MSG_GETRULE, NLM_F_DUMP, names[next], 0);
}

static void deciding(void)
{
    static const char *first[] = {"PREROUTING", "OUTPUT", "POSTROUTING", "KUBE-POSTROUTING", "KUBE-MARK-MASQ", API};
    known = rules = dnats = 0;
    for (size_t next = 0; next < sizeof first / sizeof *first; next++)
        keep(first[next]);
    for (size_t next = 0; next < known; next++)
        ask(NFT_MSG_GETRULE, NLM_F_DUMP, names[next], 1);
}

int main(int count, char **arguments)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
    if (fd < 0 || bind(fd, (void *)&address, sizeof address))
        fail("socket");
    const char *work = count > 1 ? arguments[1] : "nothing";
    serve(!strcmp(work, "everything") ? everything : !strcmp(work, "deciding") ? deciding : nothing);
    fprintf(stderr, "%zu chains, %u rules, %u of DNAT\n", known, rules, dnats);
    return 0;
}
