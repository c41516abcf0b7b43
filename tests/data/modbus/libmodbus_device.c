/* A BESS controller on libmodbus, its registers typed from the map's document.
 *
 *   libmodbus_device tcp [PORT [short]]  listens on 127.0.0.1, on a free port by default, prints it
 *   libmodbus_device rtu PATH UNIT       answers on a serial line, 115200 8N1, and prints "ready"
 *
 * It follows its power setpoint while mode is 3 and enable is 1, one ampere a kilowatt. With the word
 * "short" its input registers end at 0x1012: a read beyond is answered with exception 2.
 */
#include <arpa/inet.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

static modbus_mapping_t *registers;

static void fill(int inputs)
{
    static const uint16_t first[] = {553, 990, 560, 0, 251, 0, 0, 4998};
    registers = modbus_mapping_new_start_address(0, 0, 0, 0, 0x2000, 7, 0x1000, inputs);
    memcpy(registers->tab_input_registers, first, sizeof first);
    registers->tab_input_registers[0x10] = 1;
    if (inputs > 0x20) {
        registers->tab_input_registers[0x20] = 2500;
        registers->tab_input_registers[0x21] = 1000;
        registers->tab_input_registers[0x22] = 17;
    }
}

static void obey(void)
{
    const uint16_t *holding = registers->tab_registers;
    int on = holding[2] == 3 && holding[3] == 1;
    registers->tab_input_registers[3] = registers->tab_input_registers[5] = on ? holding[0] : 0;
    registers->tab_input_registers[6] = on ? holding[1] : 0;
}

static int serve_one(modbus_t *context)
{
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    int size = modbus_receive(context, query);
    if (size > 0) {
        modbus_reply(context, query, size, registers);
        obey();
    }
    return size;
}

static int serve_rtu(const char *path, int unit)
{
    modbus_t *context = modbus_new_rtu(path, 115200, 'N', 8, 1);
    if (context == NULL || modbus_set_slave(context, unit) != 0 || modbus_connect(context) != 0)
        return 1;
    puts("ready");
    fflush(stdout);
    for (;;)
        serve_one(context);
}

static int serve_tcp(int port)
{
    modbus_t *context = modbus_new_tcp("127.0.0.1", port);
    int listener = modbus_tcp_listen(context, 8);
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    fd_set open, ready;
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&address, &length) != 0)
        return 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    FD_ZERO(&open);
    FD_SET(listener, &open);
    for (;;) {
        ready = open;
        if (select(FD_SETSIZE, &ready, NULL, NULL, NULL) < 0)
            return 1;
        for (int fd = 0; fd < FD_SETSIZE; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listener) {
                int client = listener;
                modbus_tcp_accept(context, &client);
                FD_SET(modbus_get_socket(context), &open);
            } else {
                modbus_set_socket(context, fd);
                if (serve_one(context) == -1) {
                    close(fd);
                    FD_CLR(fd, &open);
                }
            }
        }
    }
}

int main(int count, char **words)
{
    int rtu = count == 4 && strcmp(words[1], "rtu") == 0;
    int cut = count == 4 && strcmp(words[3], "short") == 0;
    fill(cut ? 0x13 : 0x23);
    if (rtu)
        return serve_rtu(words[2], atoi(words[3]));
    return serve_tcp(count > 2 ? atoi(words[2]) : 0);
}
